-- The mart has every action of the listing exactly once. Rows are a failure.
select listed.actions, summed.actions as in_mart
from (select count(*) as actions from {{ ref('stg_actions') }}) listed
cross join (select sum(actions + reversed_actions) as actions from {{ ref('partner_day') }}) summed
where listed.actions <> summed.actions
