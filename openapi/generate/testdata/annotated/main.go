// Package annotated is a small API with every annotation that the generator treats
// specially.
package annotated

import "time"

//	@title			Example
//	@version		1
//	@description	Example of a generated description.
//
//	@securityDefinitions.apikey	AdminToken
//	@in							header
//	@name						Authorization
//	@description				Bearer token of the admin API
//
//	@securityDefinitions.apikey	TrackerKey
//	@in							header
//	@name						X-API-Key
//	@description				Key of the tracker
//
//	@securityDefinitions.basic	TrackerBasic

// problem is an RFC 9457 error.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

type envelope struct {
	Result  bool     `json:"result"`
	Content struct{} `json:"content"`
}

type startAnswer struct {
	Result  bool `json:"result"`
	Content struct {
		DIDCalled string `json:"didCalled"`
	} `json:"content"`
}

// Direction is the direction of a call.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"  // the customer called
	Outbound Direction = "outbound" // the agent called
)

type callPage struct {
	Calls []call `json:"calls"`
	Next  string `json:"next"` // empty on the last page
}

type call struct {
	ID        string    `json:"id"`
	StartedAt time.Time `json:"startedAt" format:"date-time"`
	Direction Direction `json:"direction"`
}

type configChange struct {
	Version int64 `json:"version"`
}

// startCall godoc
//
//	@Summary	Answer a start call
//	@Tags		Ziwo
//	@ID			startCall
//	@Accept		mpfd,x-www-form-urlencoded,json
//	@Produce	json
//	@Param		tracker			path		string	true	"Name of the tracker"
//	@Param		didCalled		formData	string	true	"The number that the caller dialed"
//	@Param		callerIDNumber	formData	string	false	"The caller's number"
//	@Success	200				{object}	startAnswer
//	@Failure	400,401,404		{object}	envelope
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router		/callTrackers/{tracker}/startCall [post]
func startCall() {}

// getCalls godoc
//
//	@Summary	List calls
//	@Tags		calls
//	@ID			listCalls
//	@Produce	json
//	@Param		limit	query		int	false	"Page size"	minimum(1)	maximum(1000)	default(50)
//	@Success	200		{object}	callPage
//	@Failure	400		{object}	problem
//	@Security	AdminToken
//	@Router		/api/v1/calls [get]
func getCalls() {}

// getCall godoc
//
//	@Summary	Show one call
//	@Tags		calls
//	@Produce	json
//	@Param		id	path		string	true	"ID of the call"
//	@Success	200	{object}	call
//	@Failure	404	{object}	problem
//	@Security	AdminToken
//	@Router		/api/v1/calls/{id} [get]
func getCall() {}

// exportCalls godoc
//
//	@Summary	Export calls
//	@Tags		calls
//	@ID			exportCalls
//	@Produce	text/csv
//	@Success	200	{string}	string	"One line per call"
//	@Failure	400	{object}	problem
//	@Security	AdminToken
//	@Router		/api/v1/calls.csv [get]
func exportCalls() {}

// putConfig godoc
//
//	@Summary	Apply a document
//	@Tags		configuration
//	@ID			putConfig
//	@Accept		application/yaml,json
//	@Produce	json
//	@Param		If-Match	header		string	true	"Version to replace, or *"
//	@Param		document	body		object	true	"The document"
//	@Success	200			{object}	configChange
//	@Header		200			{string}	ETag	"The new version"
//	@Failure	412,422		{object}	problem
//	@Security	AdminToken
//	@Router		/api/v1/config [put]
func putConfig() {}

// getScript godoc
//
//	@Summary	Get the script of a site
//	@Tags		browsers
//	@Produce	text/javascript
//	@Param		site	path		string	true	"Name of the site"
//	@Success	200		{string}	string	"The script"
//	@Router		/webcallback/{site}.js [get]
func getScript() {}
