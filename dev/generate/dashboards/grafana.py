"""Building blocks of Grafana dashboards, in the classic JSON model of Grafana 12.

The data source is a variable. Each dashboard has a fixed uid, so that links to it stay valid.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JSON = dict[str, Any]

FLEET, OPERATOR = "wazzup-fleet", "wazzup-operator"
TITLES = {FLEET: "Wazzup / Fleet", OPERATOR: "Wazzup / Operator"}
"""The dashboards by uid."""

SCHEMA = 41
SOURCE: JSON = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24

GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "#808080"


@dataclass(frozen=True)
class Query:
    """One query of a panel. The legend is a template of labels, empty for a single series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel and its size; `unit` is a Grafana unit."""

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    unit: str
    width: int
    height: int = 8
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Further fieldConfig.defaults."""
    overrides: Sequence[JSON] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    transformations: Sequence[JSON] = ()
    instant: bool = False

    def body(self, id_: int, x: int, y: int) -> JSON:
        """Return the panel's JSON, at a position in the grid."""
        return {
            "id": id_,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "fieldConfig": {
                "defaults": {"unit": self.unit, **self.defaults},
                "overrides": list(self.overrides),
            },
            "options": dict(self.options),
            "targets": [
                self._target(*each) for each in zip("ABCDEFGH", self.queries, strict=False)
            ],
            "transformations": list(self.transformations),
        }

    def _target(self, ref: str, query: Query) -> JSON:
        return {
            "refId": ref,
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": self.instant,
            "range": not self.instant,
            "format": "table" if self.kind == "table" else "time_series",
        }


@dataclass(frozen=True)
class Row:
    """A title and its panels, from left to right, wrapped into lines."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, description: str, variables: Sequence[JSON], rows: Iterable[Row]) -> JSON:
    """Return a dashboard."""
    return {
        "uid": uid,
        "title": TITLES[uid],
        "description": description,
        "tags": ["wazzup"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "1m",
        "time": {"from": "now-6h", "to": "now"},
        "links": [_link(other) for other in TITLES if other != uid],
        "annotations": {"list": []},
        "templating": {"list": [_data_source(), *variables]},
        "panels": _placed(rows),
    }


def _link(uid: str) -> JSON:
    """Return a link to another dashboard, for the same cluster.

    The variable `namespace` is not passed on: it is the objects' on one, the Pods' on the other.
    """
    return {
        "title": TITLES[uid],
        "type": "link",
        "url": f"/d/{uid}?${{datasource:queryparam}}&${{cluster:queryparam}}",
        "keepTime": True,
        "targetBlank": False,
        "icon": "dashboard",
        "tooltip": "",
    }


def _placed(rows: Iterable[Row]) -> list[JSON]:
    placed: list[JSON] = []
    y = 0
    for row in rows:
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": _WIDTH, "x": 0, "y": y},
                "panels": [],
            }
        )
        x, y, below = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y, below = 0, y + below, 0
            placed.append(panel.body(len(placed) + 1, x, y))
            x, below = x + panel.width, max(below, panel.height)
        y += below
    return placed


def _data_source() -> JSON:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "refresh": 1,
        "hide": 0,
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
    }


def variable(name: str, label: str, query: str) -> JSON:
    """Return a multi-value variable; the default is All."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor"},
        "regex": "",
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "options": [],
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
    }


def steps(*colours: tuple[float | None, str]) -> JSON:
    """Return thresholds: each colour applies from its value on; None is minus infinity."""
    return {
        "mode": "absolute",
        "steps": [{"value": value, "color": colour} for value, colour in colours],
    }


def override(name: str, **properties: object) -> JSON:
    """Return overrides for the field of this name; `custom_x` is `custom.x`."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [
            {"id": key.replace("custom_", "custom."), "value": value}
            for key, value in properties.items()
        ],
    }


def texts(mapping: Mapping[str, str | tuple[str, str]]) -> list[JSON]:
    """Return value mappings: from a value to a text, or to a text and its colour."""
    options: JSON = {}
    for index, (value, shown) in enumerate(mapping.items()):
        text, colour = (shown, None) if isinstance(shown, str) else shown
        options[value] = {"index": index, "text": text} | ({"color": colour} if colour else {})
    return [{"type": "value", "options": options}]


def stat(
    title: str, description: str, expr: str, *, unit: str = "short", width: int = 4, **more: Any
) -> Panel:
    """Return one large number, coloured by `thresholds`."""
    return Panel(
        "stat",
        title,
        description,
        [Query(expr)],
        unit,
        width,
        4,
        defaults={"color": {"mode": "thresholds"}, "noValue": "-", **more},
        options={
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
        instant=True,
    )


def series(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    width: int = 12,
    stacked: bool = False,
    colours: Mapping[str, str] | None = None,
) -> Panel:
    """Return lines over time, or stacked areas."""
    custom: JSON = {
        "drawStyle": "line",
        "fillOpacity": 60 if stacked else 10,
        "lineWidth": 1,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        unit,
        width,
        defaults={"color": {"mode": "palette-classic"}, "custom": custom, "min": 0},
        overrides=[
            override(name, color={"mode": "fixed", "fixedColor": colour})
            for name, colour in (colours or {}).items()
        ],
        options={
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def bars(title: str, description: str, query: Query, colours: Mapping[str, str]) -> Panel:
    """Return one horizontal bar per series, with its current value."""
    return Panel(
        "bargauge",
        title,
        description,
        [query],
        "short",
        8,
        10,
        defaults={"color": {"mode": "thresholds"}, "min": 0, "thresholds": steps((None, GREY))},
        overrides=[
            override(name, color={"mode": "fixed", "fixedColor": colour})
            for name, colour in colours.items()
        ],
        options={
            "displayMode": "basic",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "valueMode": "color",
        },
        instant=True,
    )


def timeline(title: str, description: str, query: Query, shown: list[JSON]) -> Panel:
    """Return a state timeline: the value of each series over time."""
    return Panel(
        "state-timeline",
        title,
        description,
        [query],
        "short",
        12,
        defaults={
            "color": {"mode": "thresholds"},
            "custom": {"fillOpacity": 80, "lineWidth": 0},
            "mappings": shown,
            "thresholds": steps((None, RED), (1, GREEN)),
        },
        options={
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
            "mergeValues": True,
            "rowHeight": 0.9,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )


def table(
    title: str,
    description: str,
    *queries: Query,
    columns: Mapping[str, str],
    width: int,
    height: int = 10,
    overrides: Sequence[JSON] = (),
    sort: str = "",
    descending: bool = False,
) -> Panel:
    """Return a table of current values, one line per set of labels.

    `columns` maps the labels and values to show, in this order, to their headers. The value is
    called "Value", or "Value #A" and so on if there are several queries.
    """
    return Panel(
        "table",
        title,
        description,
        queries,
        "short",
        width,
        height,
        defaults={"custom": {"align": "auto", "filterable": True}},
        overrides=overrides,
        options={
            "cellHeight": "sm",
            "showHeader": True,
            "sortBy": [{"displayName": sort, "desc": descending}] if sort else [],
        },
        transformations=[
            *([{"id": "merge", "options": {}}] if len(queries) > 1 else []),
            {"id": "filterFieldsByName", "options": {"include": {"names": [*columns]}}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {},
                    "includeByName": {},
                    "indexByName": {name: index for index, name in enumerate(columns)},
                    "renameByName": dict(columns),
                },
            },
        ],
        instant=True,
    )
