"""The local engine: services as native processes of this machine."""
