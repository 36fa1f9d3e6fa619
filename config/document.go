// Package config owns the configuration: the types of the document, strict decoding of
// YAML and JSON with positions, the JSON Schema, and validation. A Controller stores the
// versions of the document, holds the active one, and follows changes by other replicas.
// Package rules compiles its routing.
package config

import (
	"time"

	"calltracker/rules"
)

// Document is the whole configuration, as one file contains it. Parse returns
// one. The tags name the keys and describe them for editors (see Schema).
type Document struct {
	Calendars      map[string]rules.Calendar `json:"calendars" jsonschema_description:"Named lists of dates, such as public holidays."`
	Schedules      map[string]rules.Schedule `json:"schedules" jsonschema_description:"Named opening hours."`
	Trackers       map[string]Tracker        `json:"trackers" jsonschema_description:"Call trackers, by the id in their URLs."`
	Connections    map[string]Connection     `json:"connections" jsonschema_description:"CRM accounts, by name."`
	ContactCenters map[string]ContactCenter  `json:"contact_centers" jsonschema_description:"Ziwo instances, by name: example is example.aswat.co."`
	Sites          map[string]Site           `json:"sites" jsonschema_description:"Web pages that embed WebCallback, Jorel, or the pop-up."`
	Retention      *Retention                `json:"retention" jsonschema_description:"How long bodies and personal fields are kept; forever by default."`
	Tests          []Test                    `json:"tests" jsonschema_description:"Calls with their expected answers."`

	positions map[string]position // by path; nil for a document without a text
}

// Retention is how long details of calls are kept that statistics do not need.
type Retention struct {
	RawDays      int `json:"raw_days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days that the original bodies of calls are kept; 0 disables deletion."`
	PersonalDays int `json:"personal_days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days that caller details, and the bodies that contain them, are kept; 0 disables deletion."`
}

// Tracker is one pair of URLs that Ziwo calls, and how its calls are routed.
type Tracker struct {
	Label         string        `json:"label"`
	ContactCenter string        `json:"contact_center" jsonschema_description:"Ziwo instance of the tracker; by default the only one of the document."`
	Keys          Keys          `json:"keys"`
	Region        string        `json:"region" jsonschema:"pattern=^[A-Z]{2}$" jsonschema_description:"Country of national numbers, such as AE."`
	Timezone      string        `json:"timezone" jsonschema_description:"IANA name, for conditions on weekday, time, and date; by default the one that all schedules share."`
	Numbers       []rules.DID   `json:"numbers" jsonschema_description:"The DIDs of this tracker."`
	CallerID      string        `json:"caller_id" jsonschema_description:"Number shown to destinations; a dial step may name another."`
	Blocked       bool          `json:"blocked" jsonschema_description:"Reject start calls with 403."`
	CustomerWait  *Wait         `json:"customer_wait" jsonschema_description:"How long a call waits for the CRMs if a route depends on the customer; 150ms by default, 0s uses only cached answers."`
	Routes        []rules.Route `json:"routes" jsonschema:"required,minItems=1" jsonschema_description:"The first route that matches takes the call; the last must have no conditions."`
}

// Keys are the X-API-Key values that Ziwo may send.
type Keys struct {
	Start KeyList `json:"start"`
	End   KeyList `json:"end"`
}

// KeyList is written as a list of keys, or as the word "open". The zero value
// rejects every key.
type KeyList struct {
	Open bool // no key is required
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

// Connection is one CRM account. Its driver defines the settings.
type Connection struct {
	Driver   string             `json:"driver" jsonschema:"required"`
	Label    string             `json:"label"`
	Settings map[string]Setting `json:"settings"`
}

// ContactCenter is one Ziwo instance with its credentials.
type ContactCenter struct {
	API         string     `json:"api" jsonschema:"format=uri" jsonschema_description:"Base URL of its API; https://<name>-api.aswat.co by default."`
	Username    Secret     `json:"username"`
	Password    Secret     `json:"password"`
	AccessToken Secret     `json:"access_token"`
	APIKey      Secret     `json:"api_key" jsonschema_description:"For CTI."`
	WebhookKeys []Secret   `json:"webhook_keys" jsonschema_description:"x-api-key values of its call-history webhook."`
	Recordings  Recordings `json:"recordings" jsonschema_description:"How recordings and voicemails are fetched, and where copies are kept."`
}

// Recordings specifies how the recordings of a contact center are fetched from Ziwo,
// and where copies are kept.
type Recordings struct {
	Styles []RecordingStyle `json:"styles" jsonschema_description:"URL styles at Ziwo, in the order to try them; all four by default."`
	Keep   string           `json:"keep" jsonschema:"enum=data_directory,enum=s3" jsonschema_description:"Where copies are kept; no copies are made by default."`
	Days   int              `json:"days" jsonschema:"minimum=0,maximum=36500" jsonschema_description:"Days after the call that a copy is kept; 0 disables deletion."`
	S3     *Bucket          `json:"s3" jsonschema_description:"Bucket for keep: s3."`
}

// RecordingStyle is one of the URL styles of a recording at Ziwo.
type RecordingStyle string

// The styles. Package ziwo has the same ones.
const (
	RecordingSurveillance RecordingStyle = "surveillance"
	RecordingSignedURL    RecordingStyle = "signed_url"
	RecordingHistory      RecordingStyle = "history"
	RecordingStatic       RecordingStyle = "static"
)

func recordingStyles() []RecordingStyle {
	return []RecordingStyle{RecordingSurveillance, RecordingSignedURL, RecordingHistory, RecordingStatic}
}

// The values of Recordings.Keep.
const (
	KeepInDataDirectory = "data_directory"
	KeepInS3            = "s3"
)

// Bucket is a bucket of an S3-compatible object store.
type Bucket struct {
	Endpoint  string `json:"endpoint" jsonschema:"required,format=uri" jsonschema_description:"Base URL, such as https://s3.eu-central-1.amazonaws.com."`
	Region    string `json:"region" jsonschema_description:"Region, such as eu-central-1; us-east-1 by default."`
	Bucket    string `json:"bucket" jsonschema:"required"`
	Prefix    string `json:"prefix" jsonschema_description:"Prefix of object names, such as recordings/."`
	AccessKey Secret `json:"access_key" jsonschema:"required"`
	SecretKey Secret `json:"secret_key" jsonschema:"required"`
}

// Site is one website or CRM that embeds the scripts.
type Site struct {
	Origins        []string     `json:"origins" jsonschema_description:"Origins (https://host[:port]) of the pages that may call this server."`
	Keys           []Secret     `json:"keys" jsonschema_description:"Embed keys for /crm/."`
	ContactCenter  string       `json:"contact_center"`
	WebCallback    *WebCallback `json:"webcallback" jsonschema_description:"Settings of Ziwo's WebCallback button, under Ziwo's names."`
	OfflineOutside []string     `json:"offline_outside" jsonschema_description:"Schedules; the button shows as offline while all of them are closed."`
	Jorel          *Jorel       `json:"jorel" jsonschema_description:"Settings of Ziwo's Jorel web phone."`
	Popup          *Popup       `json:"popup" jsonschema_description:"Opening of the caller's CRM page."`
}

// WebCallback is the configuration of Ziwo's button. Keys that Ziwo adds later
// are passed through in Other (https://www.ziwo.io/api-integration-developers/).
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

// Translation is one custom text. If its key is a language, it is all custom
// texts in that language.
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

	ClickToCall *ClickToCall `json:"clickToCall" jsonschema_description:"Which phone numbers of the page call through the web phone."`
}

// ClickToCall selects the phone numbers of a page that are clickable.
type ClickToCall struct {
	Links     bool     `json:"links" jsonschema_description:"Links to tel: addresses."`
	Selectors []string `json:"selectors" jsonschema_description:"CSS selectors of elements whose text, or data-phone attribute, is a phone number."`
	Text      bool     `json:"text" jsonschema_description:"Phone numbers anywhere in the page text."`
}

// Popup specifies when and how the caller's CRM page opens.
type Popup struct {
	Connections []string `json:"connections" jsonschema:"required,minItems=1"`
	On          []string `json:"on" jsonschema_description:"Call states that open it; ringing and early by default."`
	Many        string   `json:"many" jsonschema:"enum=choose,enum=first,enum=nothing" jsonschema_description:"If several customers match: choose (default), first, or nothing."`
	None        string   `json:"none" jsonschema:"enum=search,enum=create,enum=nothing" jsonschema_description:"If no customer matches: search (default), create, or nothing."`
	Unavailable string   `json:"unavailable" jsonschema:"enum=search,enum=nothing" jsonschema_description:"If the CRM does not answer: search (default) or nothing."`
	Open        string   `json:"open" jsonschema:"enum=window,enum=card,enum=event" jsonschema_description:"How the page opens: window (default), card (a link in the corner of the page), or event (the page handles it)."`

	Texts map[string]Translation `json:"texts" jsonschema_description:"Texts of the card, for all languages, or under a language for that one."`
}

// Test is a call with the expected answer. What Expect does not name may be
// anything.
type Test struct {
	Name     string                 `json:"name" jsonschema:"required"`
	Tracker  string                 `json:"tracker" jsonschema:"required"`
	At       time.Time              `json:"at" jsonschema:"required" jsonschema_description:"Time of the call, in RFC 3339 with an offset."`
	Call     map[string]rules.Value `json:"call" jsonschema:"required" jsonschema_description:"Fields that Ziwo sends: didCalled, callerIDNumber, ..."`
	Customer *TestCustomer          `json:"customer" jsonschema_description:"What a CRM knows about the caller; without it, no lookup is made."`
	Expect   Expectation            `json:"expect" jsonschema:"required"`
}

// TestCustomer is what a CRM knows about the caller of a Test.
type TestCustomer struct {
	Found      bool     `json:"found"`
	Connection string   `json:"connection"`
	Tags       []string `json:"tags"`
}

// Expectation is the part of an answer that a Test checks.
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
// server keeps only this in memory, since the trackers are compiled.
func (d *Document) WithoutTrackers() *Document {
	out := *d
	out.Trackers, out.positions = nil, nil
	return &out
}
