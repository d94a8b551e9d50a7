# The compiled records have exactly the interface of the plain ones.

from tss.core.otlp.plain_records import Records as Records
