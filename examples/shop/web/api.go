package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	apiTimeout       = 5 * time.Second
	maxResponseBytes = 1 << 20
)

var errNoAnswer = errors.New("the api does not answer")

type order struct {
	ID   int64  `json:"id"`
	Item string `json:"item"`
}

// refusal is an answer of the api other than success.
type refusal struct {
	status int
	reason string
}

func (r refusal) Error() string { return r.reason }

// api calls the shop's api.
type api struct {
	base   *url.URL
	client *http.Client
}

func newAPI(base *url.URL) *api {
	return &api{base: base, client: &http.Client{Timeout: apiTimeout}}
}

// call sends one request and decodes the answer into out, unless out is nil.
// Its errors are fit to be shown to a visitor: errNoAnswer, a refusal with the
// api's own words, or an answer that cannot be read.
func (a *api) call(ctx context.Context, method, path string, body []byte, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return errNoAnswer
	}
	defer resp.Body.Close()
	answer := json.NewDecoder(io.LimitReader(resp.Body, maxResponseBytes))
	if resp.StatusCode/100 != 2 {
		return refused(resp, answer)
	}
	if out == nil {
		return nil
	}
	if err := answer.Decode(out); err != nil {
		return fmt.Errorf("the api's answer cannot be read: %w", err)
	}
	return nil
}

func refused(resp *http.Response, answer *json.Decoder) error {
	var told struct {
		Error string `json:"error"`
	}
	if err := answer.Decode(&told); err != nil || told.Error == "" {
		return refusal{resp.StatusCode, "the api answered " + resp.Status}
	}
	return refusal{resp.StatusCode, told.Error}
}
