#!/usr/bin/env bash
# Makes a release without sealift, byte for byte as `sealift publish` makes it.
#
#   recipe.sh TEMPLATE DIR CREATED REPOSITORY KEY=IMAGE…
#
# TEMPLATE    the template as JSON. JSON is YAML, so that app.yaml may be written
#             in JSON from the start; otherwise convert it with a tool of your own.
# DIR         the directory of the files that the template's components carry.
# CREATED     the release's date, RFC 3339 in UTC. oras dates all it pushes, so
#             that only dated releases (SOURCE_DATE_EPOCH) can be made like this.
# REPOSITORY  where the release goes; its tag will be the template's version.
# KEY=IMAGE   the image of each component: REPOSITORY:TAG or, from an OCI image
#             layout, oci:DIR:TAG.
#
# It needs oras and jq. OPTIONS=--plain-http makes oras speak HTTP.
set -euo pipefail
template=$1 dir=$2 created=$3 repository=$4
shift 4
http=${OPTIONS-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 1. The config: the template as canonical JSON (RFC 8785), which is what jq -cS
#    writes, without the newline, for keys and text in ASCII and whole numbers.
#    `requires` lists the features a reader has to know.
jq -cS '.requires = ([.components[].kind | select(. == ("cron", "daemon", "job")) | "kind-" + .] | unique)' \
	"$template" | tr -d '\n' >"$work/config.json"

# 2. The app manifest: the config, and one layer for each carried file, by name.
#    Names hold no blanks: the format allows letters, digits and . / _ - only.
mapfile -t files < <(jq -r '[.components[].files // {} | .[].source] | unique[]
	| . + ":application/vnd.sealift.app.file.v1"' "$template")
(
	cd "$dir"
	oras push ${http:+"$http"} --no-tty --disable-path-validation --format json \
		--artifact-type application/vnd.sealift.app.v1 \
		--config "$work/config.json:application/vnd.sealift.app.config.v1+json" \
		--annotation "org.opencontainers.image.created=$created" \
		"$repository" "${files[@]}"
) | jq '{mediaType, digest, size, artifactType}' >"$work/app.json"

# 3. The images, with everything under them and unchanged, and the descriptor of
#    each.
for image; do
	source=${image#*=} from=(${http:+--from-plain-http}) fetch=(${http:+--plain-http})
	if [[ $source = oci:* ]]; then
		source=${source#oci:} from=(--from-oci-layout) fetch=(--oci-layout)
	fi
	oras copy --no-tty "${from[@]}" ${http:+--to-plain-http} "$source" "$repository" >&2
	oras manifest fetch --descriptor "${fetch[@]}" "$source" |
		jq --arg key "${image%%=*}" '{key: $key, descriptor: {mediaType, digest, size}}'
done >"$work/images.json"

# 4. The root index: the app manifest, then one entry for each distinct image, in
#    the order of the first component that runs it; canonical JSON again.
jq -ncS --arg created "$created" \
	--slurpfile template "$template" --slurpfile app "$work/app.json" --slurpfile images "$work/images.json" '
	$template[0] as $t | {
		schemaVersion: 2,
		mediaType: "application/vnd.oci.image.index.v1+json",
		artifactType: "application/vnd.sealift.release.v1",
		manifests: ($app + [
			$images | group_by(.descriptor.digest) | map(sort_by(.key)) | sort_by(.[0].key)[]
			| .[0].descriptor + {annotations: {
				"dev.sealift.components": map(.key) | join(","),
				"dev.sealift.source": $t.components[.[0].key].image
			}}
		]),
		annotations: {
			"dev.sealift.id": $t.id,
			"org.opencontainers.image.created": $created,
			"org.opencontainers.image.description": $t.description,
			"org.opencontainers.image.title": ($t.title // ($t.id | split("/") | last)),
			"org.opencontainers.image.vendor": $t.vendor,
			"org.opencontainers.image.version": $t.version
		} | with_entries(select(.value))
	}' | tr -d '\n' >"$work/root.json"
oras manifest push ${http:+"$http"} --media-type application/vnd.oci.image.index.v1+json \
	"$repository:$(jq -r .version "$template")" "$work/root.json"
