"""The methods that DDAMFN is compared with, one file per paper; none imports another."""
