// Package broken has an annotation that names no type.
package broken

//	@title		Broken
//	@version	1

// list godoc
//
//	@Summary	List what there is
//	@ID			list
//	@Success	200	{object}	missing
//	@Router		/list [get]
func list() {}
