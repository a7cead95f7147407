"""The coordinator on a network: keys, certificates, the hardened SuperLink and the proxy in front of it."""
