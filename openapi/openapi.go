// Package openapi embeds the OpenAPI description of the HTTP API and a browser for
// it. The description is generated from the annotations in server/ and handlers/.
// To change it, change the annotations and run `make generate`.
package openapi

import (
	"embed"
	"io/fs"
)

//go:generate go run ./generate -o openapi.json server server/httpapi

//go:embed openapi.json
var document string

// The licenses are embedded with the code that they cover.
//
//go:embed browser/index.html browser/init.js browser/swagger-ui-bundle.js browser/swagger-ui.css
//go:embed browser/LICENSE browser/NOTICE browser/swagger-ui-bundle.js.LICENSE.txt
var browser embed.FS

// Document returns the OpenAPI 3.0 description as JSON. The caller may modify the
// result.
func Document() []byte { return []byte(document) }

// Browser returns the files of the API browser, with index.html at the root. Serve
// them under /docs/, and Document at /openapi.json. They work with this
// Content-Security-Policy:
//
//	default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:
func Browser() fs.FS {
	files, err := fs.Sub(browser, "browser")
	if err != nil {
		panic(err) // the directory name is a valid path
	}
	return files
}
