// Live asks an address, and ends with status 0 if the answer is 200: the health check of an image that has no shell.
//
//	live http://127.0.0.1:9464/live
package main

import (
	"fmt"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: live URL")
	}
	client := http.Client{Timeout: 4 * time.Second}
	r, err := client.Get(os.Args[1])
	if err != nil {
		fail(err.Error())
	}
	if r.Body.Close(); r.StatusCode != http.StatusOK {
		fail(r.Status)
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, "live: "+why)
	os.Exit(1)
}
