package problem

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"github.com/go-playground/validator/v10"
)

// inputValidator reports fields by their JSON names.
var inputValidator = sync.OnceValue(func() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		return name
	})
	return v
})

// Validate checks the validate tags of an input. The error is an *Invalid that
// lists every invalid field by its JSON name.
func Validate(in any) error {
	err := inputValidator().Struct(in)
	var fieldErrs validator.ValidationErrors
	if !errors.As(err, &fieldErrs) {
		return err
	}
	out := &Invalid{}
	for _, f := range fieldErrs {
		_, path, _ := strings.Cut(f.Namespace(), ".")
		out.Problems = append(out.Problems, Problem{Path: path, Message: fieldMessage(f)})
	}
	return out
}

func fieldMessage(f validator.FieldError) string {
	switch f.Tag() {
	case "required":
		return "is missing"
	case "max":
		return fmt.Sprintf("is longer than %s", f.Param())
	default:
		return fmt.Sprintf("does not satisfy %q", strings.TrimSuffix(f.Tag()+"="+f.Param(), "="))
	}
}
