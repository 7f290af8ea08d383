// Demo shows the whole case on this machine: logs of four kinds are written with an attack in them, collected onto Kafka topics, and
// detected; results land in a search index and a warehouse, a port is closed, a chat is told. Tocsin is killed in the middle. In the
// end everything is counted, and where it is twice or not at all the demo fails.
//
//	make demo                          real servers (Kafka, OpenSearch, a schema registry), about four minutes
//	go run ./demo -seconds 60          shorter
//	go run ./demo -keep                the servers stay up, to look around
//	go run ./demo -replay 5000000      so many lines at once, of a day of March, instead of logs that grow
//
// It needs Go, a JDK of 17 or newer, Maven and unzip. BigQuery, the firewall and the chat are stood in for.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/seed-98920119/tocsin/bench/gen"
)

var (
	seconds = flag.Int("seconds", 120, "how long logs are written")
	rate    = flag.Float64("rate", 200, "lines a second")
	keep    = flag.Bool("keep", false, "leave the servers running")
	replay  = flag.Int("replay", 0, "lines that are there at once, instead of -seconds and -rate")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if *seconds < 30 || *rate < 20 || *replay < 0 || flag.NArg() > 0 {
		log.Fatal("demo: -seconds must be 30 or more, -rate 20 or more, -replay not below 0")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx); err != nil {
		log.Fatalf("demo: %v", err)
	}
}

// demo runs it in a folder of its own.
func demo(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "tocsin-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil && !*keep {
			err = os.RemoveAll(dir)
		} else {
			say("logs, state and rows are in %s", dir)
		}
	}()
	began := time.Now()
	c := &stage{ctx: ctx, dir: dir}
	defer func() { err = errors.Join(err, c.down()) }()
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"building tocsin and the firewall", c.build},
		{"starting servers (the first time they are fetched)", c.up},
		{"templates for the index, topics", c.prepare},
		{"tocsin run collect.yaml, tocsin run case.yaml", c.start},
		{writing(), c.write},
		{"waiting until all has arrived", c.settle},
		{"counting", c.count},
	} {
		say("%s", step.what)
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	say("all of it once, and nothing twice; %s in all", time.Since(began).Round(time.Second))
	return nil
}

// writing says what comes in.
func writing() string {
	if *replay > 0 {
		return fmt.Sprintf("writing %d lines of logs; when half of them are read tocsin is killed", *replay)
	}
	return fmt.Sprintf("writing logs for %d seconds, %.0f lines a second; at half of it tocsin is killed", *seconds, *rate)
}

func say(format string, args ...any) {
	fmt.Printf(time.Now().Format("15:04:05")+"  "+format+"\n", args...)
}

// stage is all that runs.
type stage struct {
	ctx      context.Context
	dir      string
	env      []string
	index    string // its URL
	kafka    string
	firewall string
	stats    string // host:port of its figures
	house    *warehouse
	chat     *chat
	tocsin   *exec.Cmd
	procs    []*exec.Cmd
	servers  []string
	written  int
	delays   []time.Duration // from a line of the log to its alert in the index
}

func (c *stage) build() error {
	for to, from := range map[string]string{"tocsin": ".", "firewall": "./pipelines/article/firewall"} {
		cmd := exec.CommandContext(c.ctx, "go", "build", "-o", filepath.Join(c.dir, to), from)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	return nil
}

// down ends what runs, the servers last.
func (c *stage) down() (err error) {
	if c.tocsin != nil && c.tocsin.ProcessState == nil {
		_ = c.tocsin.Process.Signal(syscall.SIGTERM)
		_ = c.tocsin.Wait()
	}
	for _, p := range c.procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	if c.house != nil {
		c.house.Close()
	}
	if c.chat != nil {
		c.chat.Close()
	}
	if *keep {
		say("the servers stay: make servers-down")
		return nil
	}
	for _, s := range c.servers {
		if out, e := exec.Command(s, "wipe").CombinedOutput(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s wipe: %w\n%s", s, e, out))
		}
	}
	return err
}

// up starts the servers beside one another, and the doubles.
func (c *stage) up() error {
	c.house, c.chat = newWarehouse(), newChat()
	type started struct {
		script, at string
		err        error
	}
	scripts := []string{"servers/kafka.sh", "servers/opensearch.sh", "servers/registry.sh"}
	done := make(chan started)
	for _, s := range scripts {
		go func() {
			cmd := exec.CommandContext(c.ctx, s, "up")
			var errs strings.Builder
			cmd.Stderr = &errs
			out, err := cmd.Output()
			if err != nil {
				err = fmt.Errorf("%s up: %w\n%s", s, err, errs.String())
			}
			done <- started{s, strings.TrimSpace(string(out)), err}
		}()
	}
	at := map[string]string{}
	var failed error
	for range scripts {
		x := <-done
		failed = errors.Join(failed, x.err)
		if x.err == nil {
			say("  %s: %s", strings.TrimSuffix(filepath.Base(x.script), ".sh"), x.at)
		}
		at[x.script] = x.at
		c.servers = append(c.servers, x.script)
	}
	if failed != nil {
		return failed
	}
	c.kafka, c.index = at[scripts[0]], at[scripts[1]]
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	c.firewall = "http://" + listen
	c.env = append(os.Environ(), "KAFKA="+c.kafka, "ELASTICSEARCH="+c.index, "REGISTRY="+at[scripts[2]], "BIGQUERY="+c.house.URL, "BIGQUERY_STORAGE="+c.house.Storage,
		"FIREWALL="+c.firewall, "FIREWALL_SECRET=of the demo alone", "CHAT_URL="+c.chat.URL, "DRY_RUN=false")
	fw := c.command("firewall", "-listen", listen)
	if err := fw.Start(); err != nil {
		return err
	}
	c.procs = append(c.procs, fw)
	return nil
}

// freeAddress is one that nobody listens at.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// command is one of the programs that were built, in the demo's folder; what it says goes into a file.
func (c *stage) command(name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, filepath.Join(c.dir, name), args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	f, err := os.OpenFile(filepath.Join(c.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		cmd.Stdout, cmd.Stderr = f, f
	}
	return cmd
}

var topics = []string{"logins", "firewall", "ids", "weblog", "article-alerts"}

func (c *stage) prepare() error {
	if err := os.CopyFS(filepath.Join(c.dir, "pipelines", "article"), os.DirFS("pipelines/article")); err != nil {
		return err
	}
	for _, t := range topics {
		if out, err := exec.CommandContext(c.ctx, "servers/kafka.sh", "topic", t).CombinedOutput(); err != nil {
			return fmt.Errorf("topic %s: %w\n%s", t, err, out)
		}
	}
	return c.tried(c.command("tocsin", "elasticsearch", "templates", "--install", "pipelines/article/case.yaml"))
}

// tried runs a command; what it said is part of the error.
func (c *stage) tried(cmd *exec.Cmd) error {
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[1:], " "), err, c.last(cmd.Path))
	}
	return nil
}

// last are the last lines that a program said.
func (c *stage) last(program string) string {
	b, _ := os.ReadFile(filepath.Join(c.dir, filepath.Base(program)+".log"))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// start runs the collector and the case, a process each.
func (c *stage) start() error {
	collector := c.command("tocsin", "run", "pipelines/article/collect.yaml")
	if err := collector.Start(); err != nil {
		return err
	}
	c.procs = append(c.procs, collector)
	return c.detect()
}

func (c *stage) detect() error {
	at, err := freeAddress()
	if err != nil {
		return err
	}
	c.stats = at
	c.tocsin = c.command("tocsin", "run", "--http", at, "pipelines/article/case.yaml")
	return c.tocsin.Start()
}

// write writes the logs as they would happen, kills the detecting process half way, and looks when alerts come to be seen.
func (c *stage) write() error {
	a := gen.Article{Seed: uint64(time.Now().UnixNano()), Events: int(*rate * float64(*seconds)), Rate: *rate}
	if *replay > 0 {
		a.Events, a.Rate = *replay, 0
	}
	c.written = a.Events
	dir := filepath.Join(c.dir, "logs", "article")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() { wrote <- a.Write(c.ctx, dir) }()
	watch := time.NewTicker(250 * time.Millisecond)
	defer watch.Stop()
	half := time.Now().Add(time.Duration(*seconds) * time.Second / 2)
	seen := map[string]bool{}
	for killed, over := false, false; !killed || !over; {
		select {
		case err := <-wrote:
			if over = true; err != nil {
				return err
			}
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-watch.C:
			if c.look(seen); killed || *replay == 0 && time.Now().Before(half) || *replay > 0 && c.read() < *replay/2 {
				continue
			}
			killed = true
			say("  kill -9 %d", c.tocsin.Process.Pid)
			_ = c.tocsin.Process.Kill()
			_ = c.tocsin.Wait()
			if err := c.detect(); err != nil {
				return err
			}
		}
	}
	return nil
}

// look notes what is in the index for the first time: alerts, of which the first of each operator is shown, and rows of `taken`, which wait
// for no window. An index that is being made answers nothing useful; it is asked again.
func (c *stage) look(seen map[string]bool) {
	alerts, err := c.documents("article-alert", "")
	if err != nil {
		return
	}
	for id, a := range alerts {
		if !seen[id] && !seen[a.Operator] {
			say("  alert: %s", a.Title)
		}
		seen[id], seen[a.Operator] = true, true
	}
	rows, err := c.documents("article-row", "taken")
	if err != nil {
		return
	}
	for id, r := range rows {
		if !seen[id] && *replay == 0 {
			c.delays = append(c.delays, time.Since(time.UnixMilli(r.Time)))
		}
		seen[id] = true
	}
}
