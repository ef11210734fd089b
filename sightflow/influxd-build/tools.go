//go:build tools

// Package influxd pins the InfluxDB 2 server that sightflow builds for local use.
// go.sum next to it fixes every module by hash.
package influxd

import (
	_ "github.com/influxdata/influxdb/v2/cmd/influxd"
	_ "github.com/influxdata/pkg-config"
)
