package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/sealift/sealift/signer"
)

type attestFlags struct {
	key, kind, predicate string
}

func newAttest(a *app) *cobra.Command {
	var f attestFlags
	cmd := &cobra.Command{
		Use:   "attest REF --type TYPE --predicate FILE --key KEY",
		Short: "Say something signed about what is published or on media",
		Long: `attest signs a statement about a release or an image, as an SBOM, a scan report or how
it was built, and attaches it: an in-toto statement in a sigstore bundle that refers to
the artifact. It travels along, inspect lists it, and cosign verifies it. Several may
stand beside each other; the same again, by the same key, changes nothing.

An attestation is no signature: it accepts nothing. A policy may want one beside
signatures (see require.attestations in docs/format.md).`,
		Example: "  sealift attest registry.example.com/shop:1.0.0 --type spdxjson --predicate sbom.spdx.json --key cosign.key\n" +
			"  sealift attest registry.example.com/shop:1.0.0 --type https://example.com/test-report --predicate report.json --key cosign.key",
		Args: args(1, 1, "one REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.attest(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.key, "key", "", "the private key in `FILE` (required)")
	flags.StringVar(&f.kind, "type", "", "what the predicate is: a `TYPE` as spdxjson, cyclonedx, slsaprovenance1, vuln, or a URI (required)")
	flags.StringVar(&f.predicate, "predicate", "", "the predicate, a JSON object, in `FILE` (required)")
	passwordFlag(cmd, a)
	_ = cmd.MarkFlagFilename("key", "key")
	_ = cmd.MarkFlagFilename("predicate", "json")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(signer.PredicateTypes(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) attest(ctx context.Context, ref string, flags attestFlags) error {
	if flags.key == "" || flags.kind == "" || flags.predicate == "" {
		return withHint(usagef("attest wants --type TYPE, --predicate FILE and --key FILE"), "as in: sealift attest %s --type spdxjson --predicate sbom.spdx.json --key cosign.key", ref)
	}
	kind, err := signer.PredicateType(flags.kind)
	if err != nil {
		return usagef("--type: %v", err)
	}
	predicate, err := readFile(flags.predicate, signer.MaxPredicateBytes)
	if err != nil {
		return fmt.Errorf("read predicate: %w", err)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(predicate, &object); err != nil || object == nil {
		return usagef("%s is no JSON object, which a predicate is", flags.predicate)
	}
	s, err := a.loadSigner(ctx, flags.key)
	if err != nil {
		return err
	}
	f, err := a.findOne(ctx, ref)
	if err != nil {
		return err
	}
	v := struct {
		Type        string `json:"type"`
		Name        string `json:"name"`
		Digest      string `json:"digest"`
		Predicate   string `json:"predicateType"`
		Attestation string `json:"attestation"`
		Signer      string `json:"signer"`
	}{"attested", f.Name, f.Descriptor.Digest.String(), kind, "", s.Key().Fingerprint()}
	err = a.addProof(ctx, ref, f, func(dst signer.Target) error {
		desc, err := signer.Attest(ctx, dst, f.Descriptor, kind, predicate, s, signer.SignOptions{})
		v.Attestation = desc.Digest.String()
		return err
	})
	if err != nil {
		return fmt.Errorf("attest %s: %w", f.Name, err)
	}
	return a.out.Result(v, func(w io.Writer) {
		fmt.Fprintf(w, "attested %s\n  digest %s\n  %s, in %s\n  by key %s\n", v.Name, v.Digest, v.Predicate, v.Attestation, v.Signer)
	})
}
