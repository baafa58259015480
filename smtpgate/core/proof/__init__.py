"""The proof of ownership: DNS records, codes by mail, the stages of a DKIM key."""
