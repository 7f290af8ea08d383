# make check is the whole gate, the same here and in CI.

.PHONY: check fmt vet race lint tidy clean-tree fuzz bench

check: fmt vet lint race tidy clean-tree

fmt:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }

vet:
	go vet ./...

lint:
	go run . lint pipelines/*.yaml

# the concurrent parts under the race detector, with fewer random cases than go test ./... runs
race:
	go test -race -timeout 15m ./runtime/pipeline && go test -race -timeout 15m ./runtime/engine -cases=150

tidy:
	go mod tidy -diff

clean-tree:
	@test -z "$$(git status --porcelain)" || { echo "the tree is not clean:"; git status --porcelain; exit 1; }

# a minute of fuzzing for every decoder of foreign bytes
fuzz:
	@for p in event match operator state engine pipeline; do \
	  for f in $$(grep -ho 'func Fuzz[A-Za-z]*' runtime/$$p/*_test.go | cut -c6-); do \
	    go test ./runtime/$$p -run '^$$' -fuzz "^$$f\$$" -fuzztime 60s || exit 1; done; done

bench:
	go run ./bench
