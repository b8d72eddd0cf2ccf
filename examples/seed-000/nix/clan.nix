# The first example: every machine with the tag `nixos` can be reached through Tor.
{ ... }:
{
  meta.name = "example";

  inventory.machines = {
    my_cool_machine = {
      tags = [ "nixos" ];
    };
  };

  inventory.instances = {
    tor = {
      roles.server.tags.nixos = { };
    };
  };
}
