"""Who acts: one file, one ``run``, its channel ends in the signature."""
