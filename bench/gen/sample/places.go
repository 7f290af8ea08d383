package main

import (
	"bytes"
	"log"
	"net"
	"os"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"github.com/seed-98920119/tocsin/bench/gen"
)

// places writes a MaxMind DB of where some networks are, in the form of the databases of cities.
func places(path string) {
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Tocsin-Sample-City", IPVersion: 6, RecordSize: 24, BuildEpoch: gen.Start.Unix(),
		Description: map[string]string{"en": "places of the sample logs"}, Languages: []string{"de", "en"}, IncludeReservedNetworks: true})
	for _, x := range []struct{ cidr, country, en, de string }{
		{"198.51.100.0/25", "NL", "The Hague", "Den Haag"}, {"198.51.100.96/28", "CZ", "Prague", "Prag"}, {"198.51.100.192/26", "PT", "", ""},
		{"2001:db8::/33", "IT", "Rome", "Rom"},
	} {
		says := mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(x.country)}}
		if x.en != "" {
			says["city"] = mmdbtype.Map{"names": mmdbtype.Map{"de": mmdbtype.String(x.de), "en": mmdbtype.String(x.en)}}
		}
		_, network, e := net.ParseCIDR(x.cidr)
		if err == nil {
			err = e
		}
		if err == nil {
			err = w.Insert(network, says)
		}
	}
	var b bytes.Buffer
	if err == nil {
		_, err = w.WriteTo(&b)
	}
	if err == nil {
		err = os.WriteFile(path, b.Bytes(), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}
