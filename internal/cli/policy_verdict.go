package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/signer"
)

// policyTested is the result of policy test.
type policyTested struct {
	Type     string           `json:"type"`
	File     string           `json:"file"`
	Version  int              `json:"version"`
	Releases []policyDecision `json:"releases"`
	// Updates says who may replace the policy, nil for nobody.
	Updates *listedUpdates `json:"updates,omitempty"`
}

// policyDecision is what a policy says of one release.
type policyDecision struct {
	Name     string           `json:"name"`
	Digest   string           `json:"digest"`
	ID       string           `json:"id,omitempty"`
	Version  string           `json:"version,omitempty"`
	Accepted bool             `json:"accepted"`
	Rule     int              `json:"rule,omitempty"`
	Pattern  string           `json:"pattern,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Evidence *signer.Evidence `json:"evidence,omitempty"`
	// Superseded is the version of an update of the policy that is of no use any more,
	// on which nothing is decided; 0 for anything else.
	Superseded int `json:"superseded,omitempty"`
}

func (a *app) policyTest(ctx context.Context, refs []string, file string) error {
	path, _, p, err := a.readPolicy(ctx, file)
	if err != nil {
		return err
	}
	list, err := a.findAll(ctx, refs)
	if err != nil {
		return err
	}
	v := policyTested{Type: "policyTest", File: path, Version: p.Version, Updates: listUpdates(p)}
	if v.Updates != nil && !p.Updatable(a.Now()) {
		a.out.Warn("%s", noUpdateAfter)
	}
	trust := delivery.Trust{Policy: p, Now: a.Now()}
	var failed []error
	for _, f := range list {
		d := policyDecision{Name: f.Name, Digest: f.Descriptor.Digest.String()}
		evidence, superseded, err := delivery.Accept(ctx, f, trust)
		if superseded != nil {
			d.Superseded = superseded.Version
			v.Releases = append(v.Releases, d)
			continue
		}
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			failed = append(failed, err)
			d.Reason = reasonOf(f, err)
		}
		// What it is not called may be shown: nothing goes by it here.
		d.ID, d.Version, _ = delivery.Claim(ctx, f)
		d.Rule, d.Pattern = p.Match(d.ID)
		d.Accepted, d.Evidence = err == nil, evidence
		v.Releases = append(v.Releases, d)
	}
	if err := a.out.Result(v, v.print); err != nil {
		return err
	}
	if len(failed) == 0 {
		return nil
	}
	return &undecided{fmt.Sprintf("%d of %s not accepted", len(failed), count(len(list), "artifact")), errors.Join(failed...)}
}

// undecided sums up what stands in the result already.
type undecided struct {
	text string
	err  error
}

func (e *undecided) Error() string { return e.text }
func (e *undecided) Unwrap() error { return e.err }

// reasonOf is why something was not accepted, without what its line says anyway.
func reasonOf(f delivery.Found, err error) string {
	var refused *signer.PolicyError
	if errors.As(err, &refused) && refused.Rule > 0 {
		return strings.Join(refused.Reasons, "; ")
	} else if errors.As(err, &refused) {
		return "no rule is for its id"
	}
	return strings.TrimPrefix(err.Error(), f.Name+": ")
}

func (v policyTested) print(w io.Writer) {
	for _, d := range v.Releases {
		verdict := "not accepted"
		switch {
		case d.Accepted:
			verdict = "accepted"
		case d.Superseded > 0:
			verdict = fmt.Sprintf("an update to version %d of the policy, which is no newer", d.Superseded)
		}
		fmt.Fprintf(w, "%s: %s\n", d.Name, verdict)
		if d.ID != "" {
			fmt.Fprintf(w, "  %s %s\n", ui.Value(d.ID), ui.Value(d.Version))
		}
		if d.Rule > 0 {
			fmt.Fprintf(w, "  rule %d, for %s\n", d.Rule, d.Pattern)
		}
		if d.Reason != "" {
			fmt.Fprintf(w, "  %s\n", ui.Value(d.Reason))
		}
		if d.Evidence != nil && d.Evidence.Decision != nil {
			fmt.Fprintf(w, "  signed by %s\n", values(d.Evidence.Decision.Signers()))
			for _, a := range d.Evidence.Attestations {
				fmt.Fprintf(w, "  attested %s by %s\n", ui.Value(a.Type), ui.Value(a.Signer()))
			}
		}
	}
	fmt.Fprintf(w, "updates  %s\n", v.Updates.text())
}
