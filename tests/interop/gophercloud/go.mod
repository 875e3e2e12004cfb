module vrata/tests/interop/gophercloud

go 1.25.0

require github.com/gophercloud/gophercloud/v2 v2.16.0

require (
	golang.org/x/crypto v0.55.0 // indirect
	gopkg.in/yaml.v2 v2.4.0 // indirect
)
