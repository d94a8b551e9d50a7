"""Other people's programs as judges of ours, asked at random: `make oracle`."""
