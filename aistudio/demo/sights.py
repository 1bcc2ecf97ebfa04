"""The catalogue's sights: number, names, the function that draws them, and when people like them most."""

from collections.abc import Callable
from dataclasses import dataclass

from aistudio.demo import scenes_built as built
from aistudio.demo import scenes_city as city
from aistudio.demo import scenes_land as land
from aistudio.demo import scenes_water as water
from aistudio.demo.canvas import Canvas


@dataclass(frozen=True)
class Sight:
    """One point of interest. `best` is the hour or weather in which its pictures are clicked most."""

    item_id: str
    zh: str
    en: str
    draw: Callable[[Canvas], None]
    best: str

    @property
    def name(self) -> str:
        """Both names, as the catalogue's manifests carry them."""
        return f"{self.zh} {self.en}"

    @property
    def key(self) -> str:
        """Folder and seed name: the drawing function's."""
        return self.draw.__name__


_TABLE: tuple[tuple[str, str, Callable[[Canvas], None], str], ...] = (
    ("西湖", "West Lake", water.west_lake, "morning"),
    ("亚龙湾海滩", "Yalong Bay Beach", water.beach, "day"),
    ("海角灯塔", "Cape Lighthouse", water.lighthouse, "dusk"),
    ("黄果树瀑布", "Huangguoshu Waterfall", water.waterfall, "day"),
    ("漓江", "Li River", water.li_river, "fog"),
    ("帆船港", "Sailing Harbour", water.sailing_harbour, "day"),
    ("海底世界", "Undersea World", water.undersea_world, "day"),
    ("月牙泉", "Crescent Spring", water.crescent_spring, "sunset"),
    ("蓝冰川", "Blue Glacier", water.glacier, "morning"),
    ("温泉谷", "Hot Spring Valley", water.hot_spring, "snow"),
    ("周庄水乡", "Zhouzhuang Water Town", water.water_town, "dusk"),
    ("荷花池", "Lotus Pond", water.lotus_pond, "morning"),
    ("海上鸟居", "Floating Torii Gate", water.torii_gate, "sunset"),
    ("圣托里尼", "Santorini", water.santorini, "sunset"),
    ("北极光", "Northern Lights", water.northern_lights, "night"),
    ("龙脊梯田", "Longji Rice Terraces", water.terraces, "morning"),
    ("赵州桥", "Zhaozhou Stone Bridge", water.stone_bridge, "day"),
    ("玉龙雪山", "Jade Dragon Snow Mountain", land.snow_mountain, "snow"),
    ("富士山", "Mount Fuji", land.mount_fuji, "morning"),
    ("火山公园", "Volcano Park", land.volcano, "night"),
    ("七彩丹霞", "Rainbow Mountains", land.rainbow_mountains, "sunset"),
    ("鸣沙山骆驼", "Desert Camels", land.desert_camels, "sunset"),
    ("草原蒙古包", "Grassland Yurts", land.grassland_yurts, "day"),
    ("蜀南竹海", "Bamboo Forest", land.bamboo_forest, "fog"),
    ("枫林红叶", "Maple Forest", land.maple_forest, "day"),
    ("樱花大道", "Cherry Blossom Avenue", land.cherry_blossom, "day"),
    ("薰衣草花田", "Lavender Field", land.lavender_field, "sunset"),
    ("向日葵花海", "Sunflower Field", land.sunflower_field, "day"),
    ("天门洞", "Heaven's Gate Arch", land.heavens_gate, "fog"),
    ("云南石林", "Stone Forest", land.stone_forest, "day"),
    ("亚布力滑雪场", "Yabuli Ski Resort", land.ski_resort, "snow"),
    ("森林露营地", "Forest Camp Site", land.camp_site, "night"),
    ("大熊猫基地", "Giant Panda Base", land.panda_base, "snow"),
    ("野生动物园", "Safari Park", land.safari_park, "sunset"),
    ("复活节岛石像", "Easter Island Statues", land.moai, "sunset"),
    ("热气球", "Hot Air Balloons", land.hot_air_balloons, "morning"),
    ("万里长城", "Great Wall", built.great_wall, "snow"),
    ("天坛", "Temple of Heaven", built.temple_of_heaven, "day"),
    ("大雁塔", "Wild Goose Pagoda", built.wild_goose_pagoda, "night"),
    ("雷峰塔", "Leifeng Pagoda", built.leifeng_pagoda, "sunset"),
    ("故宫", "Forbidden City", built.forbidden_city, "snow"),
    ("布达拉宫", "Potala Palace", built.potala_palace, "day"),
    ("埃菲尔铁塔", "Eiffel Tower", built.eiffel_tower, "night"),
    ("比萨斜塔", "Leaning Tower of Pisa", built.leaning_tower, "day"),
    ("金字塔", "Pyramids of Giza", built.pyramids, "sunset"),
    ("荷兰风车", "Dutch Windmills", built.windmills, "day"),
    ("童话城堡", "Fairy Castle", built.fairy_castle, "dusk"),
    ("泰姬陵", "Taj Mahal", built.taj_mahal, "morning"),
    ("悉尼歌剧院", "Sydney Opera House", built.opera_house, "dusk"),
    ("大本钟", "Big Ben", built.clock_tower, "dusk"),
    ("罗马斗兽场", "Colosseum", built.colosseum, "dusk"),
    ("彩色教堂", "Onion Dome Church", built.european_church, "snow"),
    ("摩天轮", "Ferris Wheel", city.ferris_wheel, "night"),
    ("东方明珠", "Oriental Pearl Tower", city.oriental_pearl, "night"),
    ("金门大桥", "Golden Gate Bridge", city.golden_gate, "fog"),
    ("过山车", "Roller Coaster", city.roller_coaster, "day"),
    ("灯笼古街", "Lantern Street", city.lantern_street, "night"),
    ("高山缆车", "Mountain Cable Car", city.cable_car, "fog"),
    ("海湾烟花", "Bay Fireworks", city.fireworks, "night"),
    ("旋转木马", "Carousel", city.carousel, "dusk"),
    ("夜市", "Night Market", city.night_market, "night"),
)
SIGHTS: tuple[Sight, ...] = tuple(
    Sight(str(10001 + i), zh, en, draw, best) for i, (zh, en, draw, best) in enumerate(_TABLE)
)
