# make check is the whole gate, the same here and in CI.

.PHONY: demo check fmt vet race lint plugins guests sdks tidy clean-tree fuzz long bench servers-up servers-down integration bigquery-emulator

check: fmt vet lint plugins guests sdks race tidy clean-tree

fmt:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }

vet:
	go vet ./...

lint:
	go run . lint pipelines/*.yaml pipelines/article/*.yaml

# the committed modules are what their sources build, where the compiler is there; plugins keep their cases
plugins:
	plugins/build.sh --check
	go run . plugin test plugins/*/*.wasm

# the same rule in other languages, those whose toolchain is there
guests:
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && abi/testdata/guests/build.sh --check "$$dir" && \
	  { [ -z "$$(ls "$$dir")" ] || go test -count=1 -run Guests ./runtime/wasm -guests "$$dir"; }

# the SDKs on the machine at hand, against the golden batches; in the sandbox the plugins that are written with them are their test
sdks:
	cd sdk/go && go vet ./... && GOOS=wasip1 GOARCH=wasm go vet ./... && go test -count=1 ./...
	@if cargo --version >/dev/null 2>&1; then dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && cd sdk/rust && CARGO_TARGET_DIR="$$dir" cargo test --quiet --offline --locked; \
	  else echo "sdks: sdk/rust is not tested: there is no cargo"; fi
	go test -count=1 -run PluginNew . -toolchains

# the concurrent parts under the race detector, with fewer random cases than go test ./... runs
race:
	go test -race -run "DeepStacks|Collector|Breaker|Poison|Cache" ./runtime/wasm && go test -race -timeout 15m ./runtime/pipeline ./runtime/kafka ./runtime/elastic ./runtime/bigquery && go test -race -timeout 15m ./runtime/engine -cases=150 && go test -race -run 'Backups|Hung|Full' ./runtime/state

tidy:
	go mod tidy -diff

clean-tree:
	@test -z "$$(git status --porcelain)" || { echo "the tree is not clean:"; git status --porcelain; exit 1; }

# a minute of fuzzing for every decoder of foreign bytes
fuzz:
	@for p in abi runtime/bigquery runtime/elastic runtime/event runtime/kafka runtime/match runtime/operator runtime/state runtime/engine runtime/pipeline runtime/wasm; do \
	  for f in $$(grep -ho 'func Fuzz[A-Za-z]*' $$p/*_test.go | cut -c6-); do \
	    go test ./$$p -run '^$$' -fuzz "^$$f\$$" -fuzztime 60s -fuzzminimizetime 10x || exit 1; done; done

# what takes too long for every change: more random cases, more kills, more failing disks
long:
	go test -timeout 60m ./runtime/engine -cases=10000
	go test -timeout 60m ./runtime/engine -run StateIsKept -cases=100000
	go test -timeout 60m -run Killed . -kills=200
	go test -timeout 60m -run 'FailingDisk|DamagedFiles|FullDisk' . -faults=20
	go test -timeout 60m -run DamagedFiles ./runtime/state -damages=1000
	go test -timeout 60m -run FollowTorture ./runtime/pipeline -tortures=20
	go test -timeout 60m -run IntegrationCase -v . -integration -case=30m

bench:
	go run ./bench

# the whole case, with real servers, an attack and a crash (a JDK of 17 or newer, Maven, unzip)
demo:
	go run ./demo

# real servers on loopback (a JDK of 17 or newer, Maven, unzip)
servers-up:
	servers/kafka.sh up
	servers/registry.sh up
	servers/opensearch.sh up

servers-down:
	servers/kafka.sh wipe
	servers/registry.sh wipe
	servers/opensearch.sh wipe

# what needs real servers; the tests start their own, stop and kill them
integration:
	go test -count=1 -timeout 45m -run Integration -v . -integration

# BigQuery's emulator, which is compiled the first time: 8 minutes of CPU, 7 GB of memory. Not in CI
bigquery-emulator:
	servers/bigquery.sh install
	go test -count=1 -timeout 30m -run Emulator -v . -emulator
