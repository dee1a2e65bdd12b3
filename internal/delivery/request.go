package delivery

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sealift/sealift/mirror"
)

// Request says which content goes where. It is kept in a plan, so its fields may
// grow and never change.
type Request struct {
	Refs        []string `json:"refs"`
	Destination string   `json:"destination"`
	Platforms   []string `json:"platforms,omitempty"`
	Since       []string `json:"since,omitempty"`
	// Sites are what inventories said.
	Sites []RequestSite `json:"sites,omitempty"`
	// VolumeSize or Set, the directory of a volume, make it a copy onto a set, whose
	// name is SetID once it is known. Volume is the one to be written, 0 for all.
	VolumeSize string `json:"volumeSize,omitempty"`
	Set        string `json:"set,omitempty"`
	SetID      string `json:"setId,omitempty"`
	Volume     int    `json:"volume,omitempty"`
	// Tool are the platforms that the program goes along for, ToolDir is where it is
	// taken from, "" for where this program is.
	Tool        []string `json:"tool,omitempty"`
	ToolDir     string   `json:"toolDir,omitempty"`
	AllowSparse bool     `json:"allowSparse,omitempty"`
	// Check is always written: a request without it is of a program that did not
	// write down the fields since VolumeSize.
	Check bool `json:"check"`
}

// Volumes reports whether the copy is onto a volume set.
func (r Request) Volumes() bool { return r.VolumeSize != "" || r.Set != "" }

// RequestSite is the inventory of a site as a plan keeps it.
type RequestSite struct {
	Roots []RequestRoot   `json:"roots"`
	Blobs []digest.Digest `json:"blobs,omitempty"`
}

// RequestRoot is an [InventoryRoot] as a plan keeps it.
type RequestRoot struct {
	Digest    digest.Digest `json:"digest"`
	ID        string        `json:"id,omitempty"`
	Version   string        `json:"version,omitempty"`
	Platforms []string      `json:"platforms,omitempty"`
}

// ErrNoRequest reports a plan that does not say what it is the plan of.
var ErrNoRequest = errors.New("no request for a copy")

// ErrOldRequest reports a request that leaves open what was asked for.
var ErrOldRequest = errors.New("it is of an earlier version, which did not write down all that was asked for")

// ParseRequest reads the request of a plan, strictly: a reviewer's program might
// have read something else otherwise. It fails with [ErrNoRequest] where nothing is
// to be copied or nowhere, and with [ErrOldRequest].
func ParseRequest(raw []byte) (Request, error) {
	var r Request
	err := mirror.DecodeStrict(raw, &r)
	if err == nil && r.Volume < 0 {
		err = fmt.Errorf("volume %d", r.Volume)
	}
	for _, s := range r.Sites {
		err = errors.Join(err, s.check())
	}
	if err == nil && (len(r.Refs) == 0 || r.Destination == "") {
		err = ErrNoRequest
	}
	var keys map[string]json.RawMessage
	if err == nil && json.Unmarshal(raw, &keys) == nil && keys["check"] == nil {
		err = ErrOldRequest
	}
	return r, err
}

// NewRequestSite returns an inventory as a plan keeps it.
func NewRequestSite(inventory Inventory) RequestSite {
	site := RequestSite{Roots: []RequestRoot{}, Blobs: inventory.Blobs}
	for _, r := range inventory.Roots {
		root := RequestRoot{Digest: r.Digest, ID: r.ID, Version: r.Version}
		for _, p := range r.Platforms {
			root.Platforms = append(root.Platforms, mirror.FormatPlatform(p))
		}
		site.Roots = append(site.Roots, root)
	}
	return site
}

// check holds a site of a plan to the rules of an inventory, which it was made of.
func (s RequestSite) check() error {
	inventory := Inventory{Blobs: s.Blobs}
	for _, r := range s.Roots {
		platforms, err := r.platforms()
		if err != nil {
			return err
		}
		inventory.Roots = append(inventory.Roots, InventoryRoot{Digest: r.Digest, ID: r.ID, Version: r.Version, Platforms: platforms})
	}
	_, err := inventory.Format()
	return err
}

func (r RequestRoot) platforms() (list []ocispec.Platform, err error) {
	for _, s := range r.Platforms {
		p, err := mirror.ParsePlatform(s)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// name is what people call a root of a site.
func (r RequestRoot) name() string {
	if r.ID == "" {
		return r.Digest.String()
	}
	return r.ID + " " + r.Version
}
