#!/usr/bin/env bash
# The whole delivery on one Debian machine: a vendor's registry, a disk, and a
# site in a network namespace that has nothing but a loopback address. Each step
# is printed as the command a person would type.
set -euo pipefail
cd "$(dirname "$0")/.."

ROOT=$PWD
DEMO=$ROOT/demo                  # removed at the start, kept at the end for a look
BIN=$ROOT/build
IMAGES=$ROOT/build/images
VENDOR=127.0.0.1:5001
SITE=sealift-demo                # the site's network namespace
STARTED=$SECONDS
export COSIGN_PASSWORD=demo
export PATH=$BIN:$PATH

# Colours are for terminals; commands are printed so that they can be typed.
if [ -t 1 ]; then B=$'\033[1m' G=$'\033[32m' C=$'\033[36m' Z=$'\033[0m'; else B='' G='' C='' Z=''; fi
bold() { printf '\n%s%s%s\n' "$B" "$*" "$Z"; }
typed() { printf '%s%s%s' "$1" "$2" "$Z"; shift 2; printf ' %s' "${@@Q}" | sed "s/ '\([A-Za-z0-9_.,:=@%+/-]*\)'/ \1/g"; echo; }
run() { typed "$G" '$' "$@"; "$@"; }
# at_site runs a command as the site's operator: no network but loopback, the
# site's own engine and home.
at_site() {
	typed "$C" 'site$' "$@"
	DOCKER_HOST=unix://$DEMO/site/docker.sock SEALIFT_HOME=$DEMO/site/home nsenter --net=/run/netns/$SITE "$@"
}
quietly_at_site() { nsenter --net=/run/netns/$SITE "$@"; }

need_root() {
	if [ "$(id -u)" != 0 ]; then
		echo "make demo wants root: it starts a container engine in a network namespace of its own" >&2
		exit 1
	fi
}

install_missing() {
	local missing=()
	command -v dockerd >/dev/null || missing+=(docker.io iptables)
	command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1 || missing+=(docker-compose)
	command -v docker-registry >/dev/null || missing+=(docker-registry)
	command -v ip >/dev/null || missing+=(iproute2)
	command -v curl >/dev/null || missing+=(curl)
	if [ ${#missing[@]} -gt 0 ]; then
		bold "Installing what is missing: ${missing[*]}"
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
	fi
}

# stop ends a process this script started, by its id, and waits for it.
stop() {
	[ -s "$1" ] || return 0
	local pid
	pid=$(cat "$1")
	kill "$pid" 2>/dev/null || true
	for _ in $(seq 100); do
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -9 "$pid" 2>/dev/null || true
	rm -f "$1"
}

cleanup() {
	local code=$?
	trap - EXIT INT TERM
	stop "$DEMO/serve.pid"
	if [ -S "$DEMO/site/docker.sock" ]; then
		DOCKER_HOST=unix://$DEMO/site/docker.sock SEALIFT_HOME=$DEMO/site/home \
			quietly_at_site sealift uninstall shop --yes -q --delete-data sealift-shop_db_data >/dev/null 2>&1 || true
	fi
	stop "$DEMO/site/docker.pid"
	stop "$DEMO/vendor.pid"
	ip netns del $SITE 2>/dev/null || true
	rm -rf "$DEMO/site" "$DEMO/vendor"
	if [ $code != 0 ]; then
		echo "the demo failed; what it printed last says where" >&2
	fi
	exit $code
}

start_vendor() {
	mkdir -p "$DEMO/vendor"
	cat >"$DEMO/vendor/config.yml" <<-YAML
		version: 0.1
		log: {level: error, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $DEMO/vendor/data}, delete: {enabled: true}}
		http: {addr: $VENDOR}
	YAML
	typed "$G" '$' docker-registry serve config.yml
	docker-registry serve "$DEMO/vendor/config.yml" >"$DEMO/vendor/log" 2>&1 &
	echo $! >"$DEMO/vendor.pid"
	for _ in $(seq 50); do
		curl -fsS "http://$VENDOR/v2/" >/dev/null 2>&1 && return
		sleep 0.1
	done
	echo "the vendor's registry does not answer at $VENDOR; is the port taken?" >&2
	exit 1
}

# start_site makes a host without a network: a namespace with nothing but lo, and
# an engine of its own inside. /run is private so that nothing of this machine's
# engine is touched.
start_site() {
	mkdir -p "$DEMO/site"
	ip netns add $SITE
	ip -n $SITE link set lo up
	nsenter --net=/run/netns/$SITE unshare -m bash -c '
		mount -t tmpfs tmpfs /run
		exec dockerd --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/docker.pid" --host "unix://$0/docker.sock" >"$0/log" 2>&1
	' "$DEMO/site" &
	for _ in $(seq 150); do
		curl -fsS --unix-socket "$DEMO/site/docker.sock" http://d/_ping >/dev/null 2>&1 && return
		sleep 0.2
	done
	tail -5 "$DEMO/site/log" >&2
	echo "the site's engine does not start" >&2
	exit 1
}

publish() {
	run sealift publish "examples/shop/$1/app.yaml" $VENDOR/shop --key demo/vendor.key \
		--image db=build/images/redis-7.0 --image "api=build/images/shop-api-$1" --image "web=build/images/shop-web-$1"
}

expect_order() {
	if quietly_at_site curl -fsS http://127.0.0.1:8080/ | grep -q "a demo lighthouse"; then
		echo "the order is there"
	else
		echo "the order is LOST" >&2
		exit 1
	fi
}

need_root
install_missing
rm -rf "$DEMO"
mkdir -p "$DEMO"
trap cleanup EXIT INT TERM
[ -d "$IMAGES" ] || { echo "run make images first" >&2; exit 1; }

bold "1. The vendor publishes two versions, each one signed graph in an ordinary registry"
start_vendor
run sealift keygen --out demo/vendor
publish 1.0.0
publish 1.1.0

bold "2. Both go onto a disk; what they share is stored once"
run sealift mirror $VENDOR/shop:1.0.0 $VENDOR/shop:1.1.0 ./demo/media
run sealift mirror $VENDOR/shop:1.0.0 $VENDOR/shop:1.1.0 ./demo/media

bold "3. The vendor is far away now"
stop "$DEMO/vendor.pid"
if curl -fsS "http://$VENDOR/v2/" >/dev/null 2>&1; then
	echo "the vendor's registry still answers" >&2
	exit 1
fi
echo "its registry is stopped, and the site has no network:"
start_site
quietly_at_site ip -brief address

bold "4. At the site: is this what the vendor signed?"
at_site sealift verify ./demo/media --key demo/vendor.pub

bold "5. The disk is a registry, in place"
typed "$C" 'site$' sealift serve ./demo/media
nsenter --net=/run/netns/$SITE sealift serve ./demo/media &
echo $! >"$DEMO/serve.pid"
for _ in $(seq 50); do
	quietly_at_site curl -fsS http://127.0.0.1:5050/v2/ >/dev/null 2>&1 && break
	sleep 0.1
done

bold "6. Install 1.0.0 and place an order"
at_site sealift install ./demo/media --key demo/vendor.pub --version 1.0.0 --yes
at_site curl -fsS -d "item=a demo lighthouse" http://127.0.0.1:8080/orders
expect_order

bold "7. Upgrade to 1.1.0: only what differs goes down"
at_site sealift upgrade shop ./demo/media --key demo/vendor.pub --yes
expect_order
at_site sealift status
sleep 6 # the engine's first own checks
at_site docker-compose -p sealift-shop -f demo/site/home/instances/shop/2/compose.yaml ps

bold "8. Roll back"
at_site sealift rollback shop --yes
expect_order
at_site sealift history shop

bold "Done in $((SECONDS - STARTED)) s. demo/media and the keys are left for a look; everything else is cleaned up."
