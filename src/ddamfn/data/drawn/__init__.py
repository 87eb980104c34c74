"""The parts of a drawn face; `ddamfn.data.synthetic` puts them together."""
