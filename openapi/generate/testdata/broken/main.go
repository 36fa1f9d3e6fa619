// Package broken has an annotation with an unknown type.
package broken

//	@title		Broken
//	@version	1

// list godoc
//
//	@Summary	List everything
//	@ID			list
//	@Success	200	{object}	missing
//	@Router		/list [get]
func list() {}
