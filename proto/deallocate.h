/* deallocate.h: is this text a DEALLOCATE and nothing else, and of what?
 *
 * Pure: reads the text once, keeps nothing, allocates nothing. In doubt it says no.
 */
#ifndef PROTO_DEALLOCATE_H
#define PROTO_DEALLOCATE_H

#include "runtime/base.h"

enum deallocate { DEALLOCATE_NOT, DEALLOCATE_ALL, DEALLOCATE_ONE };

/* PostgreSQL cuts identifiers to this many bytes. */
enum { DEALLOCATE_NAME = 63 };

/* [comments] DEALLOCATE [PREPARE] { ALL | name } [;...]. The name, folded or unquoted, goes into
 * `name`. A name that PostgreSQL would cut is doubtful, and so is U&"...". */
enum deallocate deallocate_read(struct bytes text, char name[DEALLOCATE_NAME + 1],
                                uint32_t *name_len);

#endif
