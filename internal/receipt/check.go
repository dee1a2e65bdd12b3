package receipt

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/signer"
)

const (
	maxSiteBytes = 200
	maxNameBytes = 8 << 10 // of who signs with a certificate
)

// Words of receipts; none can speak to a terminal.
var (
	instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)
	word         = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	program      = regexp.MustCompile(`^[0-9A-Za-z()+._~-]{1,128}$`)
)

// CheckSite fails unless s can stand in a receipt as what a site calls itself.
func CheckSite(s string) error {
	if len(s) > maxSiteBytes || !utf8.ValidString(s) {
		return fmt.Errorf("want a name of at most %d bytes of UTF-8, got %.80q", maxSiteBytes, s)
	}
	if !visible(s) {
		return fmt.Errorf("want a name in one line of what can be seen, got %.80q", s)
	}
	return nil
}

func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// checks collects the first thing that is wrong.
type checks struct{ err error }

func (c *checks) want(ok bool, format string, args ...any) {
	if c.err == nil && !ok {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *checks) digest(what string, d digest.Digest) {
	c.want(d.Validate() == nil && d.Algorithm() == digest.SHA256, "%s: %.80q is no sha256 digest", what, string(d))
}

func (c *checks) time(what string, t time.Time) {
	_, offset := t.Zone()
	c.want(offset == 0 && t.Year() >= 1 && t.Year() <= 9999, "%s: %v is no time in UTC", what, t)
}

func (c *checks) release(what, id, version string, root digest.Digest) {
	if err := artifact.CheckID(id); err != nil {
		c.want(false, "%s: id: %w", what, err)
	}
	if err := artifact.CheckVersion(version); err != nil {
		c.want(false, "%s: version: %w", what, err)
	}
	c.digest(what, root)
}

func (c *checks) name(what, s string) {
	c.want(s != "" && len(s) <= maxNameBytes && utf8.ValidString(s) && visible(s), "%s: %.80q is no name", what, s)
}

func (c *checks) word(what, s string) {
	c.want(word.MatchString(s), "%s: %.80q is no word", what, s)
}

func (r Receipt) check() error {
	var c checks
	if err := CheckSite(r.Site); err != nil {
		c.want(false, "site: %w", err)
	}
	c.time("time", r.Time)
	c.want(program.MatchString(r.Sealift), "sealift: %.80q is no version", r.Sealift)
	for _, pattern := range r.For {
		if _, err := artifact.ParseIDGlob(pattern); err != nil {
			c.want(false, "for: %w", err)
		}
		c.want(utf8.ValidString(pattern) && visible(pattern), "for: %.80q is no pattern that can be seen", pattern)
	}
	if r.Policy != nil {
		c.want(r.Policy.Version > 0, "policy: %d is no version", r.Policy.Version)
		c.digest("policy", r.Policy.Digest)
	}
	c.want(r.Audit.Seq > 0, "audit: there is no entry %d", r.Audit.Seq)
	c.digest("audit", r.Audit.Digest)
	c.want(len(r.Accepted) > 0, "no release was accepted, and a statement is about something")
	for i, a := range r.Accepted {
		a.check(&c, r.Audit.Seq)
		c.want(i == 0 || r.Accepted[i-1].ID != a.ID || r.Accepted[i-1].Version != a.Version || r.Accepted[i-1].Root != a.Root, "%s %s is there twice", a.ID, a.Version)
	}
	for i, in := range r.Instances {
		in.check(&c)
		c.want(i == 0 || r.Instances[i-1].Name != in.Name, "instance %s is there twice", in.Name)
	}
	return c.err
}

func (a Release) check(c *checks, newest int) {
	what := "accepted " + a.ID
	c.release(what, a.ID, a.Version, a.Root)
	c.time(what, a.Time)
	c.want(a.Entry > 0 && a.Entry <= newest, "%s: entry %d is none of the log", what, a.Entry)
	c.want(a.Policy >= 0 && a.Rule >= 0, "%s: rule %d of policy %d", what, a.Rule, a.Policy)
	c.word(what+": event", a.Event)
	for _, s := range a.Signers {
		c.name(what+": signer", s)
	}
	for _, o := range a.Overrides {
		c.word(what+": override", o)
	}
	for _, s := range a.Signatures {
		c.name(what+": signature by", s.Signer)
		c.want(s.Form == signer.FormBundle || s.Form == signer.FormTag || s.Form == signer.FormReferrer, "%s: signature of the form %.80q", what, string(s.Form))
		c.digest(what+": signature", s.Manifest)
		c.digest(what+": signature", s.Layer)
	}
}

func (in Instance) check(c *checks) {
	c.want(instanceName.MatchString(in.Name), "instance: %.80q is no name", in.Name)
	what := "instance " + in.Name
	c.word(what+": target", in.Target)
	if cur := in.Current; cur != nil {
		c.want(cur.Revision > 0, "%s: there is no revision %d", what, cur.Revision)
		c.release(what, cur.ID, cur.Version, cur.Root)
		c.time(what, cur.Since)
	}
	c.want(in.Last.Revision > 0, "%s: there is no revision %d", what, in.Last.Revision)
	c.word(what+": action", in.Last.Action)
	c.release(what, in.Last.ID, in.Last.Version, in.Last.Root)
	c.word(what+": result", in.Last.Result)
	c.time(what, in.Last.Time)
}
