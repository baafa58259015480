# Reads messages, one in base64 a line, and prints what two readers find in them, a line each:
# Debian's libmailtools-perl, and libemail-address-xs-perl, which has Dovecot's.
use strict;
use warnings;
use Email::Address::XS;
use Encode qw(decode_utf8);
use JSON::PP;
use Mail::Address;
use Mail::Header;
use MIME::Base64;

my $json = JSON::PP->new->ascii;

while (my $line = <STDIN>) {
    my ($head) = split /\r\n\r\n/, decode_base64($line), 2;
    my @lines = map { "$_\n" } split /\r\n/, $head;
    my $header = Mail::Header->new(\@lines, Modify => 0, MailFrom => 'KEEP');
    my (%mailtools, %dovecot);
    for my $name (qw(From Sender)) {
        my @values = map { s/\n//gr } $header->get($name);
        my @texts = map { decode_utf8($_) } @values;
        $mailtools{lc $name} = [map { $_->address // '' } map { Mail::Address->parse($_) } @texts];
        $dovecot{lc $name} = [map { decode_utf8($_->address // '') }
                              map { Email::Address::XS->parse($_) } @values];
    }
    print $json->encode({'MailTools' => \%mailtools, 'Dovecot' => \%dovecot}), "\n";
}
