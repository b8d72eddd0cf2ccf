# One WireGuard controller with a public endpoint, and a laptop that connects to it.
{
  meta.name = "example";

  machines = {
    server1 = { };
    laptop1 = { };
  };

  instances = {
    wireguard = {
      module.name = "wireguard";
      module.input = "clan-core";
      roles.controller = {
        machines.server1 = { };
        settings = {
          # Public endpoint where this controller can be reached
          endpoint = "vpn.example.com";
          # Optional: Change the UDP port (default: 51820)
          port = 51820;
        };
      };
      roles.peer = {
        # No configuration needed if only one controller exists
        machines.laptop1 = { };
      };
    };
  };
}
