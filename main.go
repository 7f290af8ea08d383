// Tocsin is a detection runtime for security event streams. See README.md.
package main

import (
	"os"

	"github.com/seed-98920119/tocsin/runtime/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
