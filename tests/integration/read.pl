# Reads messages, one in base64 a line, and prints what Debian's libmailtools-perl finds in them.
use strict;
use warnings;
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
    my %found;
    for my $name (qw(From Sender)) {
        my @values = map { decode_utf8(s/\n//gr) } $header->get($name);
        $found{lc $name} = [map { $_->address // '' } map { Mail::Address->parse($_) } @values];
    }
    print $json->encode({'MailTools' => \%found}), "\n";
}
