"""The methods that DDAMFN is compared with, one paper a file; none knows another."""
