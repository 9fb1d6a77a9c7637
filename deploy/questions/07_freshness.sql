-- Title: How fresh is each table, and is that as promised?
-- One row is an export.
select export, latest_day, loaded_at, age, promised, is_stale, missing_cells, failed_cells
from impact_mirror.freshness
order by is_stale desc, export
