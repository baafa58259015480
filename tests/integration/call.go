// Calls a gate's API with Amazon's SDK for Go, version 2, unmodified, and prints the results.
//
// Reads the endpoint and the sender as JSON from standard input; the key, the region and the file
// of the authority come from the environment.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/ses"
	older "github.com/aws/aws-sdk-go-v2/service/ses/types"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	newer "github.com/aws/aws-sdk-go-v2/service/sesv2/types"
)

type given struct {
	Url  string
	From string
}

type found struct {
	Raw      string
	Simple   string
	Sent     float64
	Quota    float64
	Refused  string
	NotFound []any
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	var job given
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	settings := must(config.LoadDefaultConfig(ctx))
	v1 := ses.NewFromConfig(settings, ses.WithEndpointResolver(ses.EndpointResolverFromURL(job.Url)))
	v2 := sesv2.NewFromConfig(settings, sesv2.WithEndpointResolver(sesv2.EndpointResolverFromURL(job.Url)))
	var result found

	message := "From: " + job.From + "\r\nSubject: Raw\r\n\r\nHello.\r\n"
	raw := must(v1.SendRawEmail(ctx, &ses.SendRawEmailInput{
		Destinations: []string{"jane@example.net"},
		RawMessage:   &older.RawMessage{Data: []byte(message)},
	}))
	result.Raw = *raw.MessageId

	simple := must(v2.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: &job.From,
		Destination: &newer.Destination{
			ToAddresses:  []string{"jane@example.net"},
			BccAddresses: []string{"joe@example.org"},
		},
		Content: &newer.EmailContent{Simple: &newer.Message{
			Subject: &newer.Content{Data: aws.String("Grüße")},
			Body:    &newer.Body{Text: &newer.Content{Data: aws.String("Hello.")}},
		}},
	}))
	result.Simple = *simple.MessageId

	result.Sent = must(v1.GetSendQuota(ctx, &ses.GetSendQuotaInput{})).SentLast24Hours
	result.Quota = must(v2.GetAccount(ctx, &sesv2.GetAccountInput{})).SendQuota.Max24HourSend

	_, err := v1.SendEmail(ctx, &ses.SendEmailInput{
		Source:      aws.String("jane@example.net"),
		Destination: &older.Destination{ToAddresses: []string{"joe@example.org"}},
		Message: &older.Message{
			Subject: &older.Content{Data: aws.String("x")},
			Body:    &older.Body{Text: &older.Content{Data: aws.String("x")}},
		},
	})
	var rejected *older.MessageRejected
	if !errors.As(err, &rejected) {
		log.Fatal("not rejected: ", err)
	}
	result.Refused = rejected.ErrorMessage()

	_, err = v2.GetEmailIdentity(ctx, &sesv2.GetEmailIdentityInput{
		EmailIdentity: aws.String("missing.example.org"),
	})
	var missing *newer.NotFoundException
	var answer *awshttp.ResponseError
	if !errors.As(err, &missing) || !errors.As(err, &answer) {
		log.Fatal("not missing: ", err)
	}
	result.NotFound = []any{missing.ErrorCode(), answer.HTTPStatusCode(), answer.RequestID != ""}

	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}
