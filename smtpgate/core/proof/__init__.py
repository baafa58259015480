"""How ownership is proved: DNS records, codes by mail, the stages of a DKIM key."""
