"""What two documents of the state have in common (docs/state-schema.md)."""

from state_document import BACKENDS, HEADER, POOLS, SESSIONS, STATEMENTS, read_document, records

# What differs between two generations that do nothing in between, and must: who writes, when, which
# numbers come next, and counters, of which each document has only what came since the one before.
# When a request was read is put off by as long as nobody could be served.
OF_THE_WRITER = {HEADER: (4, 5, 6, 65, 66, 68, 67), POOLS: (17, 70), STATEMENTS: (), BACKENDS: (),
                 SESSIONS: (29,)}


# Records are numbered as they are met, which is another order there than here: they are told apart
# by what they have for good, and what refers to a record by its number is translated.
NAMED_BY = {STATEMENTS: (6,), POOLS: (2, 3), BACKENDS: (4,), SESSIONS: (2,)}
REFERENCES = {(STATEMENTS, 65): POOLS, (BACKENDS, 2): POOLS, (BACKENDS, 26): SESSIONS,
              (BACKENDS, 73): SESSIONS, (SESSIONS, 9): POOLS, (SESSIONS, 18): STATEMENTS,
              (SESSIONS, 26): BACKENDS}
LISTS = {(POOLS, 12): (0, SESSIONS), (BACKENDS, 18): (0, STATEMENTS),
         (BACKENDS, 68): (2, STATEMENTS), (SESSIONS, 16): (1, STATEMENTS),
         (SESSIONS, 70): (0, STATEMENTS)}
DESCRIPTORS = ((BACKENDS, 3), (SESSIONS, 4))


def name(kind, record):
    return tuple(record.get(key, 0) for key in NAMED_BY[kind])


def comparable(document):
    """What it says, by section and name of the record."""
    _, sections = read_document(document)
    names = {kind: {record[1]: name(kind, record) for record in records(sections, kind)}
             for kind in NAMED_BY}
    found = {HEADER: {0: dict(records(sections, HEADER)[0])}}
    for kind in NAMED_BY:
        found[kind] = {}
        for record in records(sections, kind):
            record = dict(record)
            found[kind][name(kind, record)] = record
            del record[1]
            for at in list(record):
                if (kind, at) in REFERENCES:
                    record[at] = names[REFERENCES[kind, at]][record[at]]
                if (kind, at) in LISTS:
                    place, of = LISTS[kind, at]
                    record[at] = [entry[:place] + [names[of].get(entry[place])] + entry[place + 1:]
                                  for entry in record[at]]
                if (kind, at) == (POOLS, 11):
                    record[at] = [names[BACKENDS][number] for number in record[at]]
                # So is a waiter's deadline.
                if (kind, at) == (POOLS, 12):
                    record[at] = [entry[:2] for entry in record[at]]
                if (kind, at) in DESCRIPTORS or at in OF_THE_WRITER[kind]:
                    del record[at]
    for at in OF_THE_WRITER[HEADER]:
        found[HEADER][0].pop(at, None)
    return found


def differences(one, other):
    """Where two differ: section, name of the record, key, values."""
    return [(kind, name, key, one[kind].get(name, {}).get(key), other[kind].get(name, {}).get(key))
            for kind in one for name in {**one[kind], **other[kind]}
            for key in {**one[kind].get(name, {}), **other[kind].get(name, {})}
            if one[kind].get(name, {}).get(key) != other[kind].get(name, {}).get(key)]


def shape(value, depth=0):
    """Types, and how many values elements of lists have."""
    if isinstance(value, list):
        return [len(value) if depth else "list",
                *sorted({repr(shape(item, depth + 1)) for item in value if isinstance(item, list)})]
    return type(value).__name__


def shapes(documents):
    """What the values of each key look like: {(section, key): shapes}."""
    found = {}
    for document in documents:
        for kind, _, group in read_document(document)[1]:
            for record in group:
                for key, value in record.items():
                    found.setdefault((kind, key), set()).add(repr(shape(value)))
    return found
