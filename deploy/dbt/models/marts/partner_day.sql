-- What each partner brought on each day: clicks, actions that stand, and what they sold and cost. Partners are told apart by their names, for
-- these are what listing and clicks have in common.
with clicks as (
    select account, program_id, partner, click_day as day, count(*) as clicks
    from {{ ref('stg_clicks') }}
    group by account, program_id, partner, click_day
),

actions as (
    select
        account,
        program_id,
        partner,
        action_day as day,
        count(*) filter (where not is_reversed) as actions,
        count(*) filter (where is_reversed) as reversed_actions,
        coalesce(sum(sale_amount) filter (where not is_reversed), 0) as sale_amount,
        coalesce(sum(payout) filter (where not is_reversed), 0) as payout
    from {{ ref('stg_actions') }}
    group by account, program_id, partner, action_day
)

select
    account,
    program_id,
    partner,
    day,
    coalesce(clicks.clicks, 0) as clicks,
    coalesce(actions.actions, 0) as actions,
    coalesce(actions.reversed_actions, 0) as reversed_actions,
    coalesce(actions.sale_amount, 0) as sale_amount,
    coalesce(actions.payout, 0) as payout
from clicks
full join actions using (account, program_id, partner, day)
