package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

// scope is what tokens are for: both APIs, and no other.
const scope = "https://www.googleapis.com/auth/bigquery"

// credentialKinds are the files that may say who we are. Others name addresses to ask or programs to run, which a file from elsewhere must not choose.
var credentialKinds = []string{"service_account", "authorized_user"}

// source renews tokens.
type source struct {
	read func() ([]byte, error)
	lock chan struct{} // of token; taken by whoever asks for one
	last *oauth2.Token
}

// Tokens gives bearer tokens of a service account's key, or of a user's, which is read anew for each of them; without read, of the application default
// credentials. A token lasts for about an hour.
func Tokens(read func() ([]byte, error)) func(ctx context.Context) (string, error) {
	s := &source{read: read, lock: make(chan struct{}, 1)}
	return s.token
}

// early is how long before its end a token is renewed.
const early = time.Minute

func (s *source) token(ctx context.Context) (string, error) {
	select {
	case s.lock <- struct{}{}:
		defer func() { <-s.lock }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if s.last.Valid() && time.Until(s.last.Expiry) > early {
		return s.last.AccessToken, nil
	}
	c, err := s.credentials(ctx)
	if err != nil {
		return "", err
	}
	if s.last, err = c.TokenSource.Token(); err != nil {
		return "", explainToken(err)
	}
	return s.last.AccessToken, nil
}

// explainToken says why there is no token, without what was sent.
func explainToken(err error) error {
	var said *oauth2.RetrieveError
	if !errors.As(err, &said) {
		return fmt.Errorf("no token: %s", short(err.Error()))
	}
	var why struct {
		Error       string
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(said.Body, &why) // or it says nothing
	text := fmt.Sprintf("no token: HTTP %d %s: %s", said.Response.StatusCode, short(why.Error), short(why.Description))
	if said.Response.StatusCode/100 == 4 && said.Response.StatusCode != 429 {
		return &Stop{errors.New(text + "; correct `auth`")}
	}
	return errors.New(text)
}

func (s *source) credentials(ctx context.Context) (*google.Credentials, error) {
	ctx = context.WithoutCancel(ctx)
	if s.read == nil {
		c, err := google.FindDefaultCredentials(ctx, scope)
		if err != nil {
			return nil, &Stop{errors.New("there are no application default credentials; name a service account's key with `auth`, or set GOOGLE_APPLICATION_CREDENTIALS")}
		}
		return c, nil
	}
	text, err := s.read()
	if err != nil {
		return nil, err
	}
	var is struct{ Type string }
	if json.Unmarshal(text, &is) != nil || !slices.Contains(credentialKinds, is.Type) { // never what it says
		return nil, &Stop{errors.New("the credentials are not the JSON of a service account's key, as Google gives it")}
	}
	c, err := google.CredentialsFromJSONWithType(ctx, text, google.CredentialsType(is.Type), scope)
	if err != nil {
		return nil, &Stop{errors.New("the credentials are not complete: download the key of the service account again")}
	}
	return c, nil
}
