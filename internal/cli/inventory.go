package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"oras.land/oras-go/v2/errdef"

	"github.com/sealift/sealift/artifact"
	"github.com/sealift/sealift/internal/delivery"
	"github.com/sealift/sealift/internal/ui"
	"github.com/sealift/sealift/mirror"
	"github.com/sealift/sealift/signer"
)

// envelopeSuffix is put behind the name of a document for its signed form.
const envelopeSuffix = ".dsse"

type inventoryFlags struct {
	out, key string
	ids      []string
	blobs    bool
}

func newInventory(a *app) *cobra.Command {
	var f inventoryFlags
	cmd := &cobra.Command{
		Use:   "inventory [DIR…]",
		Short: "List what the site holds, for the next media",
		Long: `inventory lists each release and image that is held whole, one line each. The list
travels back to the vendor, as a file or on paper; there sealift mirror --for FILE
leaves what the site has already. It names no places and no people, only digests,
ids, versions and platforms; with --for only those of one vendor.

DIR is media that stays at the site, or a copy of it; several hold together what one
of them lacks. Without DIR it is layout/ in the site's home, where there is one.
Content is looked at and not read: sealift verify does that. What is not whole is
left out, and told.

With --key the list is signed too, into FILE.dsse, which alone is enough for the
vendor.`,
		Example: "  sealift inventory /media/usb\n" +
			"  sealift inventory /srv/shop -O inventory.txt --for 'example.com/**' --key site.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inventory(cmd.Context(), args, f)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
	}
	cmd.Flags().StringVarP(&f.out, "out", "O", "", "write the list to `FILE`, which must not be there, not to standard output")
	cmd.Flags().StringArrayVar(&f.ids, "for", nil, "list only apps with an id that matches `ID-GLOB`, as example.com/** (may be repeated)")
	cmd.Flags().StringVar(&f.key, "key", "", "sign with the private key in `FILE`; wants -O")
	passwordFlag(cmd, a)
	cmd.Flags().BoolVar(&f.blobs, "blobs", false, "list every blob too, for a vendor who cannot look up what the roots name")
	_ = cmd.MarkFlagFilename("key", "key")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.NoFileCompletions)
	return cmd
}

// inventoried is the result of inventory.
type inventoried struct {
	Type  string            `json:"type"`
	Roots []inventoriedRoot `json:"roots"`
	Blobs []string          `json:"blobs,omitempty"`
	// LeftOut are roots that are not held whole.
	LeftOut []inventoriedLeft `json:"leftOut,omitempty"`
	// File and Envelope are what was written.
	File     string `json:"file,omitempty"`
	Envelope string `json:"envelope,omitempty"`
	Signer   string `json:"signer,omitempty"`
}

type inventoriedRoot struct {
	Digest  string `json:"digest"`
	ID      string `json:"id,omitempty"`
	Version string `json:"version,omitempty"`
	// Platforms are nil for all.
	Platforms []string `json:"platforms,omitempty"`
}

type inventoriedLeft struct {
	Name       string `json:"name"`
	Digest     string `json:"digest,omitempty"`
	Lacks      int    `json:"lacks,omitempty"`
	LacksBytes int64  `json:"lacksBytes,omitempty"`
	Reason     string `json:"reason,omitempty"`
}

func (a *app) inventory(ctx context.Context, dirs []string, f inventoryFlags) error {
	if f.key != "" && f.out == "" {
		return withHint(usagef("--key wants -O FILE, and signs into FILE%s", envelopeSuffix), "add -O inventory.txt")
	}
	opts := delivery.InventoryOptions{Blobs: f.blobs}
	for _, id := range f.ids {
		glob, err := artifact.ParseIDGlob(id)
		if err != nil {
			return usagef("--for: %v", err)
		}
		opts.For = append(opts.For, glob)
	}
	s, err := a.inventorySigner(ctx, f)
	if err != nil {
		return err
	}
	list, err := a.held(ctx, dirs)
	if err != nil {
		return err
	}
	inventory, left, err := delivery.TakeInventory(ctx, list, opts)
	if err != nil {
		return err
	}
	a.tellLeftOut(left)
	text, err := inventory.Format()
	if err != nil {
		return withHint(err, "list one vendor at a time with --for, or leave --blobs")
	}
	result := inventoryResult(inventory, left)
	if err := result.write(f.out, text, s); err != nil {
		return err
	}
	if err := a.out.Result(result, func(w io.Writer) { result.text(w, text) }); err != nil {
		return err
	}
	if len(f.ids) > 0 && len(list) > 0 && len(result.Roots)+len(result.Blobs)+len(left) == 0 {
		a.out.Message("nothing there matches --for %s; the next media has to carry everything", strings.Join(f.ids, " --for "))
		return nil
	}
	a.out.Message("%s", result.next())
	return nil
}

// inventorySigner prepares what is written: nothing is overwritten, and a key that
// cannot be used is found out first. It returns nil for an inventory without one.
func (a *app) inventorySigner(ctx context.Context, f inventoryFlags) (*signer.Signer, error) {
	paths := []string{f.out, f.out + envelopeSuffix}
	switch {
	case f.out == "":
		return nil, nil
	case f.key == "":
		paths = paths[:1]
	}
	for _, path := range paths {
		if err := wantNew(path); err != nil {
			return nil, err
		}
	}
	if f.key == "" {
		return nil, nil
	}
	return a.loadSigner(ctx, f.key)
}

// wantNew fails unless nothing is at path, which -O named.
func wantNew(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return withHint(fmt.Errorf("%w: %s exists, and is not overwritten", errRefused, path), "remove it, or choose another name: -O FILE")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// held finds what the directories hold, or the layout in the home.
func (a *app) held(ctx context.Context, dirs []string) ([]delivery.Found, error) {
	locations, err := a.holdings(dirs)
	if err != nil {
		return nil, err
	}
	var list []delivery.Found
	for _, loc := range locations {
		found, err := delivery.FindMedia(ctx, loc)
		if errors.Is(err, errdef.ErrNotFound) {
			a.out.Warn("%s holds nothing", loc)
		} else if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}

func (a *app) holdings(dirs []string) ([]artifact.Location, error) {
	var list []artifact.Location
	for _, dir := range dirs {
		loc, err := location(dir)
		if err != nil {
			return nil, err
		}
		if loc.Place == artifact.PlaceLibrary {
			return nil, withHint(usagef("want a directory, got %q", dir), "write ./%s for a directory; without DIR the library is listed", dir)
		}
		if loc.Place != artifact.PlaceMedia || loc.Repository != "" || loc.Reference() != "" {
			return nil, withHint(usagef("want a directory, got %q", dir), "choose what to list with --for")
		}
		list = append(list, loc)
	}
	if len(dirs) > 0 {
		return list, nil
	}
	home, err := a.homeDir()
	if err != nil {
		return nil, err
	}
	kept := filepath.Join(home, "layout")
	if _, err := os.Stat(kept); errors.Is(err, fs.ErrNotExist) {
		return nil, withHint(fmt.Errorf("no directory is given, and this site keeps none in its home, %s: %w", kept, errdef.ErrNotFound),
			"name the media, or the copy of it, that stays here: sealift inventory DIR")
	} else if err != nil {
		return nil, err
	}
	return []artifact.Location{{Place: artifact.PlaceMedia, Path: kept}}, nil
}

// tellLeftOut warns, for the vendor will send again what is left out.
func (a *app) tellLeftOut(left []delivery.LeftOut) {
	for _, l := range left {
		if l.Err != nil {
			a.out.Warn("left out: %v", l.Err)
			continue
		}
		where := ""
		if l.Reason != "" {
			where = "; the first is " + ui.Value(l.Reason)
		}
		a.out.Warn("left out: %s lacks %s, %s of %s%s", l.Name, count(l.Lacks.Blobs, "blob"), ui.Bytes(l.Lacks.Bytes), ui.Bytes(l.All.Bytes), where)
	}
}

func inventoryResult(inventory delivery.Inventory, left []delivery.LeftOut) inventoried {
	result := inventoried{Type: "inventory", Roots: []inventoriedRoot{}}
	for _, r := range inventory.Roots {
		root := inventoriedRoot{Digest: r.Digest.String(), ID: r.ID, Version: r.Version}
		for _, p := range r.Platforms {
			root.Platforms = append(root.Platforms, mirror.FormatPlatform(p))
		}
		result.Roots = append(result.Roots, root)
	}
	for _, d := range inventory.Blobs {
		result.Blobs = append(result.Blobs, d.String())
	}
	for _, l := range left {
		entry := inventoriedLeft{l.Name, l.Digest.String(), l.Lacks.Blobs, l.Lacks.Bytes, l.Reason}
		if l.Err != nil {
			entry.Reason = l.Err.Error()
		}
		result.LeftOut = append(result.LeftOut, entry)
	}
	return result
}

// write writes the text to a file, and with a signer the envelope beside it, which
// comes last: who sees it may rely on the other.
func (r *inventoried) write(file string, text []byte, s *signer.Signer) error {
	if file == "" {
		return nil
	}
	if err := saveNew(file, text); err != nil {
		return err
	}
	r.File = file
	if s == nil {
		return nil
	}
	raw, err := signer.Seal(delivery.TypeInventory, text, s)
	if err == nil {
		err = saveNew(file+envelopeSuffix, raw)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file))
	}
	r.Envelope, r.Signer = file+envelopeSuffix, s.Key().Fingerprint()
	return nil
}

func (r *inventoried) text(w io.Writer, text []byte) {
	if r.File == "" {
		_, _ = w.Write(text) // to memory
		return
	}
	fmt.Fprintf(w, "wrote %s\n  %s", r.File, count(len(r.Roots), "root"))
	if len(r.Blobs) > 0 {
		fmt.Fprintf(w, ", %s", count(len(r.Blobs), "blob"))
	}
	fmt.Fprintln(w)
	if r.Envelope != "" {
		fmt.Fprintf(w, "signed as %s\n  by key %s\n", r.Envelope, r.Signer)
	}
}

// next says what the inventory is for.
func (r *inventoried) next() string {
	carry, file := cmp.Or(r.Envelope, r.File, "this list"), filepath.Base(cmp.Or(r.Envelope, r.File, "FILE"))
	if len(r.Roots)+len(r.Blobs) == 0 {
		return "nothing of what was asked for is held whole; the next media has to carry everything"
	}
	return fmt.Sprintf("carry %s to the vendor; there: sealift mirror --for %s REF DISK", carry, file)
}

// saveNew writes a file that is not there yet, durably and as one step: who looks
// for it finds nothing or all of it.
func saveNew(path string, data []byte) error {
	return saveNewOnce(path, func(put func([]byte) error) error { return put(data) })
}

// saveNewOnce is saveNew for what is put down by make, and gets its name only when make
// has succeeded.
func saveNewOnce(path string, make func(put func([]byte) error) error) error {
	temp := path + "." + rand.Text()[:8] + ".new"
	failed := func(err error) error { return fmt.Errorf("write %s: %w", path, err) }
	err := make(func(data []byte) error {
		if err := writeNew(temp, data, 0o644); err != nil {
			return failed(err)
		}
		return nil
	})
	if err == nil {
		if err = os.Rename(temp, path); err != nil {
			err = failed(err)
		}
	}
	if err != nil {
		_ = os.Remove(temp) // it may never have been made
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in dir durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}
