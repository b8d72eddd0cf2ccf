# Three WireGuard controllers; the laptop says in whose subnet its name resolves.
{
  meta.name = "example";

  machines = {
    server1 = { };
    server2 = { };
    server3 = { };
    laptop1 = { };
  };

  instances = {
    wireguard = {
      module.name = "wireguard";
      module.input = "clan-core";
      roles.controller.machines = {
        server1.settings.endpoint = "vpn1.example.com";
        server2.settings.endpoint = "vpn2.example.com";
        server3.settings.endpoint = "vpn3.example.com";
      };
      roles.peer.machines.laptop1 = {
        # Must specify which controller subnet is exposed as the default in /etc/hosts, when multiple controllers exist
        settings.controller = "server1";
      };
    };
  };
}
