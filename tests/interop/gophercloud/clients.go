// Package clients pins the release of gophercloud whose acceptance tests `make interop-gophercloud` runs.
package clients

import _ "github.com/gophercloud/gophercloud/v2"
