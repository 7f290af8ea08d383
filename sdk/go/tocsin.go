// Package tocsin is the plugin contract (abi/README.md) for Go 1.24 or later, without dependencies.
//
// A detect plugin is a manifest and one function:
//
//	package main
//
//	import (
//		"bytes"
//
//		tocsin "github.com/seed-98920119/tocsin/sdk/go"
//	)
//
//	func init() { tocsin.Register(tocsin.Plugin{Process: process}) }
//
//	func process(b *tocsin.Batch, hits *tocsin.Hits) error {
//		command := b.Texts(0)
//		for row := range b.Rows {
//			if bytes.Contains(command.At(row), []byte("-enc")) {
//				hits.Add(row, 1)
//			}
//		}
//		return nil
//	}
//
//	func main() {}
//
// Read batch.go (columns) and hits.go (answers) first, then host.go (state, timers, tables).
package tocsin

import "strconv"

// Plugin is what a module does. What it says about a row depends on the row, the configuration and the host's state alone:
// instances come and go, and what one remembers in its own memory is lost. An error fails the call: nothing of it counts.
type Plugin struct {
	// Init is called once, with a configuration that satisfies the manifest's config_schema. It may be nil.
	Init func(config Config) error
	// Process judges the rows of a batch.
	Process func(b *Batch, hits *Hits) error
	// Timer judges timers that fired; b.TimerAt and b.TimerTag say which. It may be nil.
	Timer func(b *Batch, hits *Hits) error
	// Migrate brings what keys remember up to date, a row a key; b.FromVersion says since when. It may be nil.
	Migrate func(b *Batch) error
}

var registered Plugin

// Register says what the module does; call it once, in an init function.
func Register(p Plugin) { registered = p }

// Code is what the contract's functions answer when they refuse; negative. It is an error.
type Code int32

// The codes. Own and all below are the plugin's own.
const (
	NotFound    Code = -1
	Invalid     Code = -2
	TooSmall    Code = -3
	Denied      Code = -4
	Quota       Code = -5
	Unsupported Code = -6
	Internal    Code = -7
	BadRow      Code = -8 // a row that went back, or that has no key
	Own         Code = -64
)

// Error is the code's number.
func (c Code) Error() string { return "code " + strconv.Itoa(int(c)) }

// answer is the code of an error; the text of one that is no code goes to the host.
func answer(err error) int32 {
	if err == nil {
		return 0
	}
	if c, ok := err.(Code); ok && c < 0 {
		return int32(c)
	}
	fail(err.Error())
	return int32(Internal)
}

// judge gives a batch to a function of the plugin.
func judge(batch []byte, f func(*Batch, *Hits) error) int32 {
	if f == nil {
		return int32(Unsupported)
	}
	b := Batch{b: batch}
	b.open()
	hits := Hits{}
	hits.open(batch, b.Rows)
	if err := f(&b, &hits); err != nil {
		return answer(err)
	}
	return hits.finish()
}

// start gives the plugin the configuration behind an init header.
func start(header []byte) int32 {
	if registered.Init == nil {
		return 0
	}
	at, n := u32(header, 8), u32(header, 12)
	return answer(registered.Init(Config(string(header[at : at+n]))))
}
