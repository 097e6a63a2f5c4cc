-- Of submissions: room in each page for the changes of its rows, and vacuum after a fiftieth of the table.
ALTER TABLE submissions SET (
    fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
