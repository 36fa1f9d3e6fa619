// Package openapi holds the description of the HTTP API and a browser for it,
// both embedded. The description is generated from the annotations in server/
// and handlers/: change those, then run `make generate`.
package openapi

import (
	"embed"
	"io/fs"
)

//go:generate go run ./generate -o openapi.json server handlers

//go:embed openapi.json
var document string

// The licences travel with the code that they cover.
//
//go:embed browser/index.html browser/init.js browser/swagger-ui-bundle.js browser/swagger-ui.css
//go:embed browser/LICENSE browser/NOTICE browser/swagger-ui-bundle.js.LICENSE.txt
var browser embed.FS

// Document returns the OpenAPI 3.0 description as JSON. The caller owns the
// bytes.
func Document() []byte { return []byte(document) }

// Browser returns the files of the API browser, index.html at the top. They
// expect to be served under /docs/, with Document at /openapi.json, and need no
// more than this Content-Security-Policy:
//
//	default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:
func Browser() fs.FS {
	files, err := fs.Sub(browser, "browser")
	if err != nil {
		panic(err) // only for a folder name that is no valid path
	}
	return files
}
