<?php
// Sends by a gate's API with Symfony Mailer and async-aws, and prints the ids of the messages.
require 'Symfony/Component/HttpClient/autoload.php';
require 'Symfony/Component/Mailer/autoload.php';
require 'Symfony/Component/Mailer/Bridge/Amazon/autoload.php';
require 'AsyncAws/Ses/autoload.php';

use Symfony\Component\HttpClient\HttpClient;
use Symfony\Component\Mailer\Bridge\Amazon\Transport\SesTransportFactory;
use Symfony\Component\Mailer\Transport\Dsn;
use Symfony\Component\Mime\Email;

$job = json_decode(stream_get_contents(STDIN), true);
$http = HttpClient::create(['cafile' => $job['caFile']]);
$factory = new SesTransportFactory(null, $http);
$ids = [];
foreach (['ses+https', 'ses+api'] as $scheme) {
    $dsn = new Dsn($scheme, $job['host'], $job['key'], $job['secret'], $job['port'], ['region' => $job['region']]);
    $email = (new Email())
        ->from("News <{$job['from']}>")
        ->to('jane@example.net')
        ->bcc('joe@example.org')
        ->subject("Grüße by $scheme")
        ->text('Hello.')
        ->html('<p>Hello.</p>');
    $ids[$scheme] = $factory->create($dsn)->send($email)->getMessageId();
}
echo json_encode($ids);
