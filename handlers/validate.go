package handlers

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"calltracker/problem"

	"github.com/go-playground/validator/v10"
)

// inputs checks the validate tags of inputs; errors name JSON fields.
var inputs = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	return v
})

// validateInput returns an *problem.Invalid that names every field that is wrong.
func validateInput(in any) error {
	err := inputs().Struct(in)
	var wrong validator.ValidationErrors
	if !errors.As(err, &wrong) {
		return err
	}
	out := &problem.Invalid{}
	for _, f := range wrong {
		_, path, _ := strings.Cut(f.Namespace(), ".")
		out.Problems = append(out.Problems, problem.Problem{Path: path, Message: complaint(f)})
	}
	return out
}

func complaint(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is missing"
	case "max":
		return fmt.Sprintf("is longer than %s", f.Param())
	default:
		return fmt.Sprintf("does not satisfy %q", strings.TrimSuffix(f.Tag()+"="+f.Param(), "="))
	}
}
