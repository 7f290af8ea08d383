// Generate writes the four logs that pipelines/article/collect.yaml collects, with an attack in them.
//
//	go run ./pipelines/article/generate                      20 000 lines at once, into logs/article
//	go run ./pipelines/article/generate -rate 50             as they would happen, until Ctrl-C or the last one
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"

	"github.com/seed-98920119/tocsin/bench/gen"
)

func main() {
	log.SetFlags(0)
	dir := flag.String("dir", "logs/article", "the folder")
	a := gen.Article{}
	flag.Uint64Var(&a.Seed, "seed", 1, "the same seed gives the same lines, but for their times with -rate")
	flag.IntVar(&a.Events, "events", 20_000, "lines together")
	flag.Float64Var(&a.Rate, "rate", 0, "lines a second; 0: at once, with times of 2 March 2026")
	flag.Parse()
	if a.Events < 0 || a.Rate < 0 || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, done := signal.NotifyContext(context.Background(), os.Interrupt)
	defer done()
	if err := a.Write(ctx, *dir); err != nil {
		log.Fatal(err)
	}
}
