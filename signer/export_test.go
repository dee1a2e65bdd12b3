package signer

import (
	"reflect"
	"slices"
)

// PolicyFields are the fields of each object in a policy, sorted.
func PolicyFields() map[string][]string {
	all := map[string][]string{}
	for name, v := range map[string]any{"policy": policyFile{}, "key": fileKey{}, "rule": fileRule{}, "require": fileRequire{}, "updates": fileUpdates{}, "trustedRoot": fileRoot{}, "identity": fileIdentity{}, "attestation": fileAttestation{}} {
		for i := range reflect.TypeOf(v).NumField() {
			all[name] = append(all[name], reflect.TypeOf(v).Field(i).Tag.Get("json"))
		}
		slices.Sort(all[name])
	}
	return all
}
