// Package config is the configuration document: its types, strict decoding of
// YAML and JSON with positions, its JSON Schema, and validation. The routing in
// it is compiled by package rules.
package config

import (
	"time"

	"calltracker/rules"
)

// Document is the configuration as it is written: one file that decides
// everything. Parse fills it; built by hand it has no line numbers. The tags
// name the keys and describe them for editors (see Schema).
type Document struct {
	Calendars      map[string]rules.Calendar `json:"calendars" jsonschema_description:"Named lists of dates, such as public holidays."`
	Schedules      map[string]rules.Schedule `json:"schedules" jsonschema_description:"Named opening hours."`
	Trackers       map[string]Tracker        `json:"trackers" jsonschema_description:"Call trackers, by the id in their URLs."`
	Connections    map[string]Connection     `json:"connections" jsonschema_description:"CRM accounts, by name."`
	ContactCenters map[string]ContactCenter  `json:"contact_centers" jsonschema_description:"Ziwo instances, by name: example is example.aswat.co."`
	Sites          map[string]Site           `json:"sites" jsonschema_description:"Web pages that embed WebCallback, Jorel or the pop-up."`
	Retention      *Retention                `json:"retention" jsonschema_description:"How long bodies and personal fields are kept; for good when absent."`
	Tests          []Test                    `json:"tests" jsonschema_description:"Calls with the answer they must get."`

	positions map[string]position // by path; nil for a document without a text
}

// Retention is how long is kept what calls do not need for statistics.
type Retention struct {
	RawDays      int `json:"raw_days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days that the bodies of calls are kept as they came; 0 for good."`
	PersonalDays int `json:"personal_days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days that it is kept who called, and the bodies with it; 0 for good."`
}

// Tracker is one pair of URLs that Ziwo calls, and how its calls are routed.
type Tracker struct {
	Label         string        `json:"label"`
	ContactCenter string        `json:"contact_center" jsonschema_description:"The Ziwo instance it belongs to; the only one of the document when absent."`
	Keys          Keys          `json:"keys"`
	Region        string        `json:"region" jsonschema:"pattern=^[A-Z]{2}$" jsonschema_description:"Country whose national numbers are meant, such as AE."`
	Timezone      string        `json:"timezone" jsonschema_description:"IANA name, for conditions on weekday, time and date; that of the schedules when absent."`
	Numbers       []rules.DID   `json:"numbers" jsonschema_description:"The DIDs of this tracker."`
	CallerID      string        `json:"caller_id" jsonschema_description:"Number shown to destinations unless a step says otherwise."`
	Blocked       bool          `json:"blocked" jsonschema_description:"Refuse start calls with 403."`
	CustomerWait  *Wait         `json:"customer_wait" jsonschema_description:"How long a call waits for the CRMs when a route looks at the customer; 150ms when absent, 0s takes only what is known already."`
	Routes        []rules.Route `json:"routes" jsonschema:"required,minItems=1" jsonschema_description:"The first that matches is taken; the last must have no conditions."`
}

// Keys are the X-API-Key values that Ziwo may send.
type Keys struct {
	Start KeyList `json:"start"`
	End   KeyList `json:"end"`
}

// KeyList is written as a list of keys, or as the word "open". The zero value
// refuses everyone.
type KeyList struct {
	Open bool
	Keys []Secret
}

// Wait is how long a call may wait for something.
type Wait time.Duration

// CustomerTimeout returns how long a call of the tracker waits for the CRMs.
func (t Tracker) CustomerTimeout() time.Duration {
	if t.CustomerWait == nil {
		return defaultCustomerWait
	}
	return time.Duration(*t.CustomerWait)
}

const defaultCustomerWait = 150 * time.Millisecond

// Connection is one CRM account. Its driver says which settings it takes.
type Connection struct {
	Driver   string             `json:"driver" jsonschema:"required"`
	Label    string             `json:"label"`
	Settings map[string]Setting `json:"settings"`
}

// ContactCenter is one Ziwo instance and how to log in to it.
type ContactCenter struct {
	API         string     `json:"api" jsonschema:"format=uri" jsonschema_description:"Base URL of its API; https://<name>-api.aswat.co when absent."`
	Username    Secret     `json:"username"`
	Password    Secret     `json:"password"`
	AccessToken Secret     `json:"access_token"`
	APIKey      Secret     `json:"api_key" jsonschema_description:"For CTI."`
	WebhookKeys []Secret   `json:"webhook_keys" jsonschema_description:"x-api-key values of its call-history webhook."`
	Recordings  Recordings `json:"recordings" jsonschema_description:"How recordings and voicemails are fetched, and whether they are kept."`
}

// Recordings says how the recordings of a contact center are fetched, and
// whether they are kept beyond Ziwo.
type Recordings struct {
	Styles []RecordingStyle `json:"styles" jsonschema_description:"Addresses at Ziwo, in the order of trial; all four when absent."`
	Keep   string           `json:"keep" jsonschema:"enum=data_directory,enum=s3" jsonschema_description:"Where copies are kept; none are when absent."`
	Days   int              `json:"days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days after the call that a copy is kept; 0 for good."`
	S3     *Bucket          `json:"s3" jsonschema_description:"The bucket of keep: s3."`
}

// RecordingStyle is one of the addresses of a recording at Ziwo.
type RecordingStyle string

// The styles, as package ziwo knows them.
const (
	Surveillance RecordingStyle = "surveillance"
	SignedURL    RecordingStyle = "signed_url"
	History      RecordingStyle = "history"
	Static       RecordingStyle = "static"
)

func recordingStyles() []RecordingStyle {
	return []RecordingStyle{Surveillance, SignedURL, History, Static}
}

// Where Recordings are kept.
const (
	InDataDirectory = "data_directory"
	InS3            = "s3"
)

// Bucket is a bucket of an object store that speaks S3's protocol.
type Bucket struct {
	Endpoint  string `json:"endpoint" jsonschema:"required,format=uri" jsonschema_description:"Base URL, such as https://s3.eu-central-1.amazonaws.com."`
	Region    string `json:"region" jsonschema_description:"Such as eu-central-1; us-east-1 when absent."`
	Bucket    string `json:"bucket" jsonschema:"required"`
	Prefix    string `json:"prefix" jsonschema_description:"Put in front of the names of objects, such as recordings/."`
	AccessKey Secret `json:"access_key" jsonschema:"required"`
	SecretKey Secret `json:"secret_key" jsonschema:"required"`
}

// Site is one web page or CRM that embeds the scripts.
type Site struct {
	Origins        []string     `json:"origins" jsonschema_description:"https://host[:port] of the pages that may call this server."`
	Keys           []Secret     `json:"keys" jsonschema_description:"Embed keys for /crm/."`
	ContactCenter  string       `json:"contact_center"`
	WebCallback    *WebCallback `json:"webcallback" jsonschema_description:"Settings of Ziwo's WebCallback button, with Ziwo's own names."`
	OfflineOutside []string     `json:"offline_outside" jsonschema_description:"Schedules; outside of all of them the button shows as offline."`
	Jorel          *Jorel       `json:"jorel" jsonschema_description:"Settings of Ziwo's Jorel web phone."`
	Popup          *Popup       `json:"popup" jsonschema_description:"Open the caller's CRM page."`
}

// WebCallback is the configuration of Ziwo's button. Keys that Ziwo adds later
// pass through in Other (https://www.ziwo.io/api-integration-developers/).
type WebCallback struct {
	ContactCenterName   string                 `json:"contactCenterName" jsonschema:"required"`
	Extensions          []string               `json:"extensions" jsonschema:"required,minItems=1"`
	CallerIDNumber      string                 `json:"callerIDNumber"`
	NumberOfRetries     *int                   `json:"numberOfRetries" jsonschema:"minimum=0"`
	Timeout             *int                   `json:"timeout" jsonschema:"minimum=1" jsonschema_description:"Seconds."`
	ExtensionTimeout    *int                   `json:"extensionTimeout" jsonschema:"minimum=1" jsonschema_description:"Seconds."`
	ExtensionDelay      *int                   `json:"extensionDelay" jsonschema:"minimum=0" jsonschema_description:"Seconds."`
	PositionClass       string                 `json:"positionClass"`
	ReplacementTargetID string                 `json:"replacementTargetId"`
	DefaultCountryFlags []string               `json:"defaultCountryFlags"`
	Offline             *bool                  `json:"offline"`
	CustomTexts         map[string]Translation `json:"customTexts"`
	Other               map[string]any         `json:"-"`
}

// Translation is one custom text, or with a language as its key the texts of
// that language.
type Translation struct {
	Text  string
	Texts map[string]string
}

// Jorel is the configuration of Ziwo's web phone
// (https://www.ziwo.io/api-integration-developers/).
type Jorel struct {
	ContactCenterName       string `json:"contactCenterName"`
	DefaultPosition         string `json:"defaultPosition" jsonschema:"enum=bottom-right,enum=bottom-left,enum=top-right,enum=top-left"`
	DefaultSize             string `json:"defaultSize" jsonschema:"enum=normal,enum=small,enum=mini"`
	DefaultRegionCode       string `json:"defaultRegionCode" jsonschema:"pattern=^([A-Za-z]{2})?$"`
	FixedPositionAndSize    bool   `json:"fixedPositionAndSize"`
	DeactivateMinimization  bool   `json:"deactivateMinimization"`
	DeactivateConsoleOutput bool   `json:"deactivateConsoleOutput"`

	ClickToCall *ClickToCall `json:"clickToCall" jsonschema_description:"Make phone numbers of the page call through the web phone."`
}

// ClickToCall says which phone numbers of a page call when they are clicked.
type ClickToCall struct {
	Links     bool     `json:"links" jsonschema_description:"Links to tel: addresses."`
	Selectors []string `json:"selectors" jsonschema_description:"CSS selectors of elements whose text, or data-phone attribute, is a phone number."`
	Text      bool     `json:"text" jsonschema_description:"Phone numbers anywhere in the text of the page."`
}

// Popup says when and how the caller's CRM page opens.
type Popup struct {
	Connections []string `json:"connections" jsonschema:"required,minItems=1"`
	On          []string `json:"on" jsonschema_description:"Call states that open it; ringing and early when absent."`
	Many        string   `json:"many" jsonschema:"enum=choose,enum=first,enum=nothing" jsonschema_description:"When several customers match: choose (default), first or nothing."`
	None        string   `json:"none" jsonschema:"enum=search,enum=create,enum=nothing" jsonschema_description:"When nobody matches: search (default), create or nothing."`
	Unavailable string   `json:"unavailable" jsonschema:"enum=search,enum=nothing" jsonschema_description:"When the CRM does not answer: search (default) or nothing."`
	Open        string   `json:"open" jsonschema:"enum=window,enum=card,enum=event" jsonschema_description:"How: window (default), card, a link in the corner of the page, or event, left to the page."`

	Texts map[string]Translation `json:"texts" jsonschema_description:"What the card says, for every language, or with a language as the key for that one."`
}

// Test is a call and the answer it must get. Expect names what matters; the
// rest is free.
type Test struct {
	Name    string                 `json:"name" jsonschema:"required"`
	Tracker string                 `json:"tracker" jsonschema:"required"`
	At      time.Time              `json:"at" jsonschema:"required" jsonschema_description:"RFC 3339, with an offset."`
	Call    map[string]rules.Value `json:"call" jsonschema:"required" jsonschema_description:"What Ziwo sends: didCalled, callerIDNumber, ..."`
	// Customer is who the caller is; without it nobody was looked up.
	Customer *TestCustomer `json:"customer" jsonschema_description:"What a CRM knows of the caller; without it nobody was looked up."`
	Expect   Expectation   `json:"expect" jsonschema:"required"`
}

// TestCustomer is what a CRM knows of a Test's caller.
type TestCustomer struct {
	Found      bool     `json:"found"`
	Connection string   `json:"connection"`
	Tags       []string `json:"tags"`
}

// Expectation is the part of an answer that a Test holds.
type Expectation struct {
	Route     *string   `json:"route"`
	Numbers   *[]string `json:"numbers"`
	Voicemail *bool     `json:"voicemail"`
}

// Position returns the line and column of the value at path, or of the closest
// value around it. They count from 1, and are 0 for a document without a text.
func (d *Document) Position(path string) (line, column int) {
	for p := path; p != ""; p = parent(p) {
		if at, ok := d.positions[p]; ok {
			return at.line, at.column
		}
	}
	at := d.positions[""]
	return at.line, at.column
}

// parent returns the path of the value that contains the one at path.
func parent(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '.' || path[i] == '[' {
			return path[:i]
		}
	}
	return ""
}

// WithoutTrackers returns the document without its trackers and positions. A
// server that keeps a document in memory needs only this: everything about
// trackers is in the compiled rules.
func (d *Document) WithoutTrackers() *Document {
	out := *d
	out.Trackers, out.positions = nil, nil
	return &out
}
