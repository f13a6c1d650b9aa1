"""`brickctl`, the small client.

    main        the command group: options, and what an error means for the exit code
    exits       the exit codes, and the errors that carry them
    settings    where etcd is and as whom: options, environment, a settings file
    session     one run of the client: the store, the key space, the time
    known       keys as read, at one revision where it matters
    facts       from keys to summaries
    writing     conditional writes of users' keys
    asking      the question before data is lost, or more than one device goes
    forgetting  nodes and backends that are over
    documents   YAML 1.2 and JSON, with the line of each field and how it was written
    scalars     numbers and dates that may not be what was meant
    manifests   documents to specs; every fault with its place and the remedy
    shapes      summaries as plain objects, for `-o json|yaml|name|jsonpath`
    output      tables, ages, and the formats of `-o`
    remedies    what to do about a reason
    …           one module for each command

It reads what users may read (never `records/`, `grants/` and `connections/`, but for `explain`) and writes `desired/` alone;
`fence` and `forgetting` are operators'.
"""
