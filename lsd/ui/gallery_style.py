"""How the gallery looks: the theme's colours, so that it follows dark mode; one column where the page is narrow.

Gradio puts its own container before every selector, split at commas: inside `@media` no selector may hold one.
"""

CSS = """
.gradio-container > .main { padding-left: clamp(12px, 3vw, 32px) !important; padding-right: clamp(12px, 3vw, 32px) !important; }
#lsd-gallery { gap: .8rem; min-width: 0 !important; --soft: color-mix(in srgb, var(--body-text-color) 68%, transparent);
  --tint: color-mix(in srgb, var(--color-accent) 18%, transparent); }
#lsd-g-main { transition: opacity .15s; }
#lsd-gallery[aria-busy] #lsd-g-main { opacity: .6; }
#lsd-gallery a { color: inherit; text-decoration: none; }
#lsd-gallery a:focus-visible, #lsd-gallery button:focus-visible, #lsd-gallery summary:focus-visible {
  outline: 2px solid var(--color-accent); outline-offset: 2px; border-radius: 8px; }
#lsd-gallery h2 { font-size: 1.35rem; font-weight: 700; margin: 0; outline: none; }
#lsd-gallery h3 { font-size: 1.05rem; font-weight: 650; margin: 0 0 .3rem; }
#lsd-gallery h4 { font-size: .72rem; font-weight: 650; letter-spacing: .05em; text-transform: uppercase; margin: 0 0 .25rem;
  color: var(--soft); }
#lsd-gallery ul { list-style: none; margin: 0; padding: 0; }
#lsd-gallery code { font-size: .85em; overflow-wrap: anywhere; background: none; padding: 0; border: none; color: inherit; }
#lsd-gallery .lsd-note { color: var(--soft); }
.lsd-g-view { overflow-wrap: anywhere; }
.lsd-g-view p { margin: .3rem 0; }

.lsd-g-bar { display: flex; flex-wrap: wrap; gap: .6rem; align-items: center; }
.lsd-g-views { display: flex; border-radius: 10px; padding: 3px; background: var(--background-fill-secondary);
  border: 1px solid var(--border-color-primary); }
.lsd-g-views a { padding: .35rem .9rem; border-radius: 8px; font-size: .92rem; }
.lsd-g-views a[aria-current] { background: var(--tint); font-weight: 650; }
#lsd-g-search { flex: 1 1 16rem; min-width: 0; padding: .55rem .9rem; border-radius: 10px; font-size: 1rem;
  color: var(--body-text-color); background: var(--input-background-fill); border: 1px solid var(--border-color-primary); }
#lsd-g-search::placeholder { color: var(--soft); opacity: 1; }
#lsd-g-search:focus { outline: none; border-color: var(--color-accent); box-shadow: 0 0 0 3px var(--tint); }
.lsd-g-sort { font-size: .85rem; color: var(--soft); white-space: nowrap; }
#lsd-g-sort { padding: .45rem 1.8rem .45rem .6rem; border-radius: 10px; font-size: .9rem; color: var(--body-text-color);
  background-color: var(--input-background-fill); border: 1px solid var(--border-color-primary); max-width: 18rem; }
#lsd-g-filter { display: none; }
#lsd-gallery:not([data-view=browse]) :is(.lsd-g-sort, #lsd-g-filter) { display: none; }

#lsd-g-body { display: grid; grid-template-columns: 245px minmax(0, 1fr); gap: 1.6rem; align-items: start; }
#lsd-g-body:not(:has(.lsd-g-facets)) { grid-template-columns: minmax(0, 1fr); }
#lsd-g-body:not(:has(.lsd-g-facets)) > :first-child:not(:last-child) { display: none; }
#lsd-g-body > * { min-width: 0 !important; width: 100%; }
.lsd-g-facets { display: flex; flex-direction: column; gap: 1rem; font-size: .85rem; }
.lsd-g-skip { position: absolute; left: -100rem; } .lsd-g-skip:focus { position: static; }
.lsd-g-facet ul { max-height: 15.5rem; overflow-y: auto; scrollbar-width: thin; }
.lsd-g-facet a { display: flex; justify-content: space-between; gap: .6rem; padding: .2rem .5rem; border-radius: 6px; }
.lsd-g-facet a:hover { background: var(--background-fill-secondary); }
#lsd-gallery .lsd-g-facet a[aria-current] { background: var(--tint); font-weight: 650; }
.lsd-g-value { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
:is(.lsd-g-value, .lsd-g-compare th, .lsd-g-add a) small { display: block; overflow: hidden; text-overflow: ellipsis;
  color: var(--soft); font-size: .72rem; font-weight: 400; }
.lsd-g-weights { margin: .5rem 0; padding: .5rem .8rem; border-left: 3px solid var(--soft); font-size: .9rem; }
.lsd-g-count { flex: none; color: var(--soft); font-variant-numeric: tabular-nums; font-weight: 400; }

.lsd-g-hero { margin-bottom: 1.1rem; max-width: 52rem; }
.lsd-g-hero p { font-size: 1rem; line-height: 1.55; color: var(--soft); }
#lsd-gallery :is(.lsd-g-hero p, .lsd-g-all, .lsd-g-where, .lsd-g-table, .lsd-g-origin, .lsd-g-message, .lsd-g-more) a {
  color: var(--body-text-color); text-decoration: underline var(--color-accent); text-underline-offset: 3px; }
.lsd-g-try, .lsd-g-active { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin-top: .5rem; }
.lsd-g-try small, .lsd-g-chip small { color: var(--soft); }
.lsd-g-chip { display: inline-block; padding: .2rem .7rem; margin: 0 .2rem .2rem 0; border-radius: 99px; font-size: .85rem;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.lsd-g-chip:hover, .lsd-g-button:hover { border-color: var(--color-accent) !important; }
.lsd-g-clear { font-size: .85rem; text-decoration: underline !important; padding: .2rem .4rem; }
.lsd-g-head { margin-bottom: .9rem; }

.lsd-g-grid, .lsd-g-strip { display: grid; gap: .9rem .75rem; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)); }
.lsd-g-strip { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); }
.lsd-g-card { display: block; position: relative; font-size: .78rem; line-height: 1.35; border-radius: 10px; }
.lsd-g-card img, .lsd-g-card .lsd-g-missing, .lsd-g-grid .lsd-g-place { display: flex; width: 100%; height: auto; aspect-ratio: 1;
  object-fit: cover; border-radius: 10px; margin: 0 0 .35rem; transition: transform .16s, box-shadow .16s; }
.lsd-g-card img { background: var(--background-fill-secondary); }
.lsd-g-card:hover img, .lsd-g-card:focus-visible img { transform: translateY(-2px) scale(1.02);
  box-shadow: 0 8px 22px rgb(0 0 0 / .26); }
.lsd-g-card b, .lsd-g-card span:not(.lsd-g-missing) { display: block; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.lsd-g-card b { font-weight: 620; font-size: .84rem; }
.lsd-g-card span:not(.lsd-g-missing) { color: var(--soft); }
.lsd-g-missing { align-items: center; justify-content: center; text-align: center; font-size: .78rem; padding: .5rem;
  color: var(--soft); border: 1px dashed var(--border-color-primary);
  background: var(--background-fill-secondary); border-radius: 10px; }
.lsd-g-state { position: absolute; top: .4rem; left: .4rem; padding: .05rem .5rem; border-radius: 99px; font-style: normal;
  font-size: .72rem; font-weight: 600; background: #fff4d6; color: #6b4a00; }
.lsd-g-place { background: var(--background-fill-secondary); animation: lsd-g-pulse 1.4s ease-in-out infinite alternate; }
.lsd-g-hero.lsd-g-place { height: 6.5rem; border-radius: 10px; }
@keyframes lsd-g-pulse { from { opacity: .55; } }
@media (prefers-reduced-motion: reduce) { .lsd-g-place { animation: none; } .lsd-g-card img { transition: none; } }
.lsd-g-message { padding: .7rem 1rem; margin-bottom: .8rem; border-left: 4px solid var(--color-accent); border-radius: 6px;
  background: var(--background-fill-secondary); line-height: 1.5; }
.lsd-g-pager { display: flex; flex-wrap: wrap; gap: .3rem; justify-content: center; align-items: center; margin-top: 1.4rem; }
.lsd-g-pager a { min-width: 2.3rem; padding: .4rem .7rem; text-align: center; border-radius: 8px; font-size: .9rem; }
.lsd-g-pager a:hover, .lsd-g-pager a[aria-current] { background: var(--background-fill-secondary); }
.lsd-g-pager a[aria-current] { font-weight: 700; box-shadow: inset 0 0 0 1px var(--border-color-primary); }
.lsd-g-all { text-align: center; padding-top: .8rem; font-weight: 600; }

.lsd-g-way { display: flex; justify-content: space-between; gap: 1rem; margin-bottom: .9rem; font-size: .92rem; }
.lsd-g-way a { padding: .25rem .1rem; } .lsd-g-way span a { margin-left: 1rem; }
.lsd-g-way a:hover { color: var(--color-accent) !important; }
.lsd-g-back { font-weight: 600; }
.lsd-g-unit { display: grid; grid-template-columns: minmax(0, 448px) minmax(0, 1fr); gap: 1.8rem; align-items: start; }
.lsd-g-large { display: flex; width: 100%; max-width: 448px; height: auto; aspect-ratio: 1; object-fit: contain;
  border-radius: 14px; image-rendering: auto; box-shadow: 0 6px 24px rgb(0 0 0 / .18); margin: 0; }
.lsd-g-synonyms, .lsd-g-where { color: var(--soft); font-size: .92rem; }
.lsd-g-buttons { display: flex; flex-wrap: wrap; gap: .5rem; margin: .8rem 0; }
.lsd-g-button { display: inline-block; padding: .4rem .85rem; border-radius: 9px; font-size: .85rem; cursor: pointer;
  color: var(--body-text-color); background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
#lsd-gallery .lsd-g-primary { background: var(--button-primary-background-fill); color: var(--button-primary-text-color);
  border-color: transparent; font-weight: 600; }
.lsd-g-numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(110px, 1fr)); gap: .6rem; margin: .9rem 0; }
.lsd-g-numbers div { padding: .45rem .7rem; border-radius: 9px; border: 1px solid var(--border-color-primary); }
.lsd-g-numbers dt { font-size: .74rem; color: var(--soft); }
.lsd-g-numbers dd { margin: 0; font-size: 1.05rem; font-weight: 620; font-variant-numeric: tabular-nums; }
.lsd-g-says { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: .3rem 1.4rem; }
.lsd-g-says .lsd-top .fill { background: var(--tint); }
.lsd-g-curve { margin-top: .8rem; max-width: 460px; }
.lsd-g-plot { width: 100%; height: auto; display: block; }
.lsd-g-plot path { fill: none; stroke: var(--color-accent); stroke-width: 2; stroke-linejoin: round; }
.lsd-g-plot .g { stroke: var(--border-color-primary); stroke-width: 1; }
.lsd-g-plot text { fill: var(--soft); font-size: 10.5px; }
.lsd-g-section { margin-top: 1.7rem; padding-top: 1.1rem; border-top: 1px solid var(--border-color-primary); }
.lsd-g-section > .lsd-note { margin-bottom: .6rem; }
.lsd-g-more { display: flex; flex-wrap: wrap; gap: .3rem 1.3rem; padding-top: .5rem; font-size: .9rem; }
.lsd-g-code { position: relative; }
.lsd-g-code pre { padding-right: 5.2rem; border: 1px solid var(--border-color-primary); }
.lsd-g-code button { position: absolute; top: .45rem; right: .5rem; padding: .2rem .6rem; font-size: .78rem; }
.lsd-g-table { width: 100%; font-size: .87rem; border-collapse: collapse; }
.lsd-g-table th { width: 10rem; text-align: left; font-weight: 500; color: var(--soft); }
.lsd-g-table :is(th, td) { padding: .3rem .6rem .3rem 0; vertical-align: top; border: none; line-height: 1.5; }
.lsd-g-table details { margin-top: .3rem; } .lsd-g-table summary { cursor: pointer; }

.lsd-g-classes { columns: 15rem; column-gap: 1.6rem; }
.lsd-g-classes a, .lsd-g-add li a { display: flex; justify-content: space-between; gap: .6rem; padding: .22rem .5rem;
  border-radius: 6px; font-size: .9rem; break-inside: avoid; }
.lsd-g-classes a:hover, .lsd-g-add li a:hover { background: var(--background-fill-secondary); }
.lsd-g-pick { margin-bottom: 1rem; }
.lsd-g-add ul { columns: 13rem; max-height: 13rem; overflow-y: auto; }
.lsd-g-add { padding: .5rem .8rem; margin-top: .4rem; border-radius: 10px; border: 1px solid var(--border-color-primary); }
.lsd-g-add summary { cursor: pointer; font-size: .9rem; }
.lsd-g-scroll { overflow-x: auto; }
.lsd-g-compare { border-collapse: collapse; }
.lsd-g-compare, .lsd-g-compare tr, .lsd-g-table, .lsd-g-table tr { padding: 0 !important; margin: 0 !important; }
.lsd-g-compare :is(th, td) { padding: .4rem; border: none; vertical-align: middle; font-size: .88rem; text-align: left; }
.lsd-g-compare td { width: 210px; min-width: 96px; }
.lsd-g-compare tbody th { max-width: 11rem; font-weight: 600; }
.lsd-g-compare thead th { font-weight: 600; font-size: .82rem; vertical-align: bottom; max-width: 210px; }
.lsd-g-compare td > .lsd-g-missing { display: flex; aspect-ratio: 1; }
.lsd-g-origin { padding-top: .6rem; border-top: 1px solid var(--border-color-primary); }

.lsd-g-picks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 2rem; }
@media (max-width: 800px) {
  h1 { font-size: 1.3rem !important; line-height: 1.25 !important; }
  #lsd-g-body { grid-template-columns: minmax(0, 1fr); gap: 1rem; }
  #lsd-g-filter { display: inline-block; }
  #lsd-gallery:not(.lsd-g-open) #lsd-g-body:has(.lsd-g-facets) > :first-child:not(:last-child) { display: none; }
  #lsd-g-search { flex-basis: 100%; order: -1; }
  .lsd-g-hero p { font-size: .93rem; }
  .lsd-g-facet ul { max-height: 11rem; }
  .lsd-g-facet a { padding: .4rem .5rem; }
  .lsd-g-grid { grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); }
  .lsd-g-strip { grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); }
  #lsd-g-sort { max-width: 11.5rem; }
  .lsd-g-unit { grid-template-columns: minmax(0, 1fr); gap: .6rem; }
  .lsd-g-large { max-width: none; }
  .lsd-g-numbers { grid-template-columns: 1fr 1fr; }
  .lsd-g-table tr { display: block; margin-bottom: .6rem !important; }
  .lsd-g-table th { display: block; width: auto; padding: 0; }
  .lsd-g-table td { display: block; padding: 0; }
  .lsd-g-code pre { padding-right: .6rem; padding-top: 2.2rem; }
  .lsd-g-compare { display: block; }
  .lsd-g-compare thead { display: block; }
  .lsd-g-compare tbody { display: block; }
  .lsd-g-compare tr { display: grid; grid-template-columns: repeat(var(--models), minmax(0, 1fr)); }
  .lsd-g-compare td { width: auto; min-width: 0; }
  .lsd-g-compare thead td { display: none; }
  .lsd-g-compare thead th { font-size: .74rem; }
  .lsd-g-compare tbody th { grid-column: 1 / -1; max-width: none; padding-bottom: 0; }
}
"""
